"""What has come of a segment: quickly in memory, slowly or after trouble in a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from netdump.remote.coming import HELD_BYTES_MAX, HELD_SECONDS_MAX, Coming, new_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.remote.staging import Staging

NAME = "a.seg"


def test_what_comes_at_once_is_held(staging: Staging) -> None:
    coming = Coming(staging, NAME, new_room())
    coming.take(iter([b"abc", b"d"]))
    assert (coming.is_held, coming.size(), staging.size(NAME)) == (True, 4, 0)
    coming.take(iter([b"ef"]))
    assert [coming.read(0, 6), coming.read(4, 9), coming.read(6, 1)] == [b"abcdef", b"ef", b""]
    assert coming.next_data(3) == 3


def test_too_much_goes_into_a_file_with_what_follows(staging: Staging) -> None:
    coming = Coming(staging, NAME, new_room())
    piece = bytes(range(256)) * 4096
    number = HELD_BYTES_MAX // len(piece) + 3
    coming.take(piece for _ in range(number))
    assert not coming.is_held
    assert coming.size() == staging.size(NAME) == number * len(piece)
    assert staging.segment(NAME).read_bytes() == piece * number


def test_too_slow_goes_into_a_file(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    coming = Coming(staging, NAME, new_room())

    def pieces() -> Iterator[bytes]:
        nonlocal now
        yield b"ab"
        assert coming.is_held
        now += HELD_SECONDS_MAX + 0.1
        yield b"cd"
        assert staging.segment(NAME).read_bytes() == b"abcd"
        yield b"ef"
        assert staging.segment(NAME).read_bytes() == b"abcdef"

    coming.take(pieces())
    assert staging.segment(NAME).read_bytes() == b"abcdef"


@pytest.mark.parametrize("error", [ConnectionError, KeyboardInterrupt])
def test_what_had_come_before_trouble_is_kept(staging: Staging, error: type[BaseException]) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise error

    coming = Coming(staging, NAME, new_room())
    with pytest.raises(error):
        coming.take(pieces())
    assert (coming.is_held, coming.size()) == (False, 3)
    coming.take(iter([b"d"]))
    assert staging.segment(NAME).read_bytes() == b"abcd"


def test_it_goes_on_behind_what_a_file_holds(staging: Staging) -> None:
    staging.append(NAME, iter([b"abc"]))
    coming = Coming(staging, NAME, new_room())
    coming.take(iter([b"d"]))
    assert (coming.is_held, coming.size()) == (False, 4)
    coming.spill()
    assert staging.segment(NAME).read_bytes() == b"abcd"


def test_nothing_that_came_makes_no_file(staging: Staging) -> None:
    coming = Coming(staging, NAME, new_room())
    coming.spill()
    assert not staging.segment(NAME).exists()
