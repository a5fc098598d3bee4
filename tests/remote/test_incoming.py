"""What has come of a segment: quickly in memory, slowly or after trouble in a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from netdump.remote.incoming import HELD_BYTES_MAX, HELD_SECONDS_MAX, Incoming, new_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.remote.staging import Staging

NAME = "a.seg"


def test_what_comes_at_once_is_held(staging: Staging) -> None:
    incoming = Incoming(staging, NAME, new_room())
    incoming.take(iter([b"abc", b"d"]))
    assert (incoming.is_held, incoming.size(), staging.size(NAME)) == (True, 4, 0)
    incoming.take(iter([b"ef"]))
    assert [incoming.read(0, 6), incoming.read(4, 9), incoming.read(6, 1)] == [b"abcdef", b"ef", b""]
    assert incoming.next_data(3) == 3


def test_too_much_goes_into_a_file_with_what_follows(staging: Staging) -> None:
    incoming = Incoming(staging, NAME, new_room())
    piece = bytes(range(256)) * 4096
    number = HELD_BYTES_MAX // len(piece) + 3
    incoming.take(piece for _ in range(number))
    assert not incoming.is_held
    assert incoming.size() == staging.size(NAME) == number * len(piece)
    assert staging.segment(NAME).read_bytes() == piece * number


def test_too_slow_goes_into_a_file(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    incoming = Incoming(staging, NAME, new_room())

    def pieces() -> Iterator[bytes]:
        nonlocal now
        yield b"ab"
        assert incoming.is_held
        now += HELD_SECONDS_MAX + 0.1
        yield b"cd"
        assert staging.segment(NAME).read_bytes() == b"abcd"
        yield b"ef"
        assert staging.segment(NAME).read_bytes() == b"abcdef"

    incoming.take(pieces())
    assert staging.segment(NAME).read_bytes() == b"abcdef"


@pytest.mark.parametrize("error", [ConnectionError, KeyboardInterrupt])
def test_what_had_come_before_trouble_is_kept(staging: Staging, error: type[BaseException]) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise error

    incoming = Incoming(staging, NAME, new_room())
    with pytest.raises(error):
        incoming.take(pieces())
    assert (incoming.is_held, incoming.size()) == (False, 3)
    incoming.take(iter([b"d"]))
    assert staging.segment(NAME).read_bytes() == b"abcd"


def test_it_goes_on_behind_what_a_file_holds(staging: Staging) -> None:
    staging.append(NAME, iter([b"abc"]))
    incoming = Incoming(staging, NAME, new_room())
    incoming.take(iter([b"d"]))
    assert (incoming.is_held, incoming.size()) == (False, 4)
    incoming.spill()
    assert staging.segment(NAME).read_bytes() == b"abcd"


def test_nothing_that_came_makes_no_file(staging: Staging) -> None:
    incoming = Incoming(staging, NAME, new_room())
    incoming.spill()
    assert not staging.segment(NAME).exists()
