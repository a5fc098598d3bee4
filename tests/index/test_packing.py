"""Packed pieces: back and forth, cut anywhere, and hostile."""

from __future__ import annotations

import io
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.codec import Compressor
from netdump.errors import RemoteError
from netdump.index.packing import PART_BYTES, PIECE_BYTES, Packer, stored_head, unpack_pieces

NOISE = os.urandom(5000)
PIECES = [b"abcd" * 5000, NOISE, b"\0", b"text " * 100_000, os.urandom(70_000) + b"z" * 300]
STREAM = b"".join(map(Packer().pack, PIECES))


def unpack(stream: bytes) -> list[tuple[bytes, int]]:
    return list(unpack_pieces(io.BytesIO(stream).read))


def test_back_and_forth() -> None:
    found = unpack(STREAM)
    assert b"".join(piece for piece, _ in found) == b"".join(PIECES)
    assert sum(count for _, count in found) == len(STREAM)


def test_what_does_not_shrink_stays_as_it_is() -> None:
    assert Packer().pack(NOISE) == struct.pack(">II", 5000, 5000) + NOISE
    assert len(Packer().pack(b"a" * PIECE_BYTES)) < 1000


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, len(STREAM)))
def test_what_comes_before_a_cut_is_right(at: int) -> None:
    whole = b"".join(PIECES)
    got = b"".join(piece for piece, _ in unpack(STREAM[:at]))
    assert whole.startswith(got)
    assert at < len(STREAM) or got == whole


@pytest.mark.parametrize(
    "record",
    [
        struct.pack(">II", 0, 0),
        struct.pack(">II", 5, 0),
        struct.pack(">II", 5, 6),
        struct.pack(">II", PIECE_BYTES + 1, 5),
        struct.pack(">II", 100, 5) + b"hello",
        struct.pack(">II", 4000, len(STREAM[8:])) + STREAM[8:],
    ],
)
def test_what_no_collector_sends(record: bytes) -> None:
    with pytest.raises(RemoteError):
        unpack(record.ljust(1 << 20, b"\0"))


def test_stored_pieces_come_in_parts() -> None:
    noise = os.urandom(PIECE_BYTES)
    found = unpack(stored_head(noise) + noise + Packer().pack(b"a" * 1000))
    assert len(found) == PIECE_BYTES // PART_BYTES + 1
    assert b"".join(piece for piece, _ in found) == noise + b"a" * 1000


@pytest.mark.parametrize("size", [1, 100, PART_BYTES + 1])
def test_what_came_of_a_stored_piece_before_a_cut_is_kept(size: int) -> None:
    noise = os.urandom(PIECE_BYTES)
    found = unpack(stored_head(noise) + noise[:size])
    assert b"".join(piece for piece, _ in found) == noise[:size]
    assert sum(count for _, count in found) == 8 + size


def test_a_bomb_is_not_unpacked() -> None:
    bomb = Compressor(19).compress(bytes(64 << 20))
    with pytest.raises(RemoteError, match="claims"):
        unpack(struct.pack(">II", PIECE_BYTES, len(bomb)) + bomb)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_pieces_or_refused(data: bytes) -> None:
    try:
        found = unpack(data)
    except RemoteError:
        return
    assert sum(count for _, count in found) <= len(data)
