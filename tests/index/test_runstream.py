"""The stream of run tables: back and forth, cut anywhere, and hostile."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BusyError, DamagedError, NetdumpError, RemoteError, UnreachableError
from netdump.index import runstream
from netdump.index.runstream import pack_stream, unpack_stream
from netdump.store.runtables import RunTable
from netdump.testing.sample_dump import SampleDump

if TYPE_CHECKING:
    from collections.abc import Iterator

DUMP = SampleDump(seed=4)
TABLES = [RunTable(chunk.offset, chunk.length, chunk.table) for chunk in DUMP.chunks]
STREAM = b"".join(pack_stream(TABLES))


def unpack(*pieces: bytes) -> list[RunTable]:
    return list(unpack_stream(iter(pieces), lambda body: BusyError(body.decode())))


def test_back_and_forth_in_any_pieces() -> None:
    assert unpack(STREAM) == TABLES
    assert unpack(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == TABLES
    assert unpack(STREAM + b"what follows") == TABLES
    assert unpack(*pack_stream([])) == []


def test_pieces_have_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runstream, "PIECE_BYTES", 100)
    pieces = list(pack_stream(TABLES))
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 100 + 16 + max(len(table.table) for table in TABLES)
    assert b"".join(pieces) == STREAM


def test_every_cut_is_noticed() -> None:
    for at in range(len(STREAM)):
        with pytest.raises(UnreachableError):
            unpack(STREAM[:at])


def test_trouble_before_the_first_piece_is_raised() -> None:
    with pytest.raises(DamagedError):
        list(pack_stream(broken(0)))


def test_trouble_on_the_way_stands_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runstream, "PIECE_BYTES", 1)
    stream = unpack_stream(pack_stream(broken(3)), lambda body: BusyError(body.decode()))
    assert [next(stream) for _ in range(3)] == TABLES[:3]
    with pytest.raises(BusyError, match='"code": "damaged", "message": "a disk died"'):
        next(stream)


def broken(count: int) -> Iterator[RunTable]:
    yield from TABLES[:count]
    raise DamagedError("a disk died")


@pytest.mark.parametrize(
    "record",
    [
        struct.pack(">QII", 1, 4096, 8),
        struct.pack(">QII", 0, (1 << 30) + 1, 8),
        struct.pack(">QII", 0, 4096, 65537),
        struct.pack(">QII", 0, 4096, 8) + bytes((0, 0, 0, 0, 0, 0, 0x10, 1)),
        struct.pack(">QII", 0, 4096, 0),
    ],
)
def test_what_no_collector_sends(record: bytes) -> None:
    with pytest.raises(RemoteError):
        unpack(record)


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_any_damage_ends_in_an_error_or_in_tables(data: st.DataObject) -> None:
    stream = bytearray(STREAM)
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    try:
        tables = unpack(bytes(stream))
    except NetdumpError:
        return
    assert [table.offset for table in tables] == [table.offset for table in TABLES]
