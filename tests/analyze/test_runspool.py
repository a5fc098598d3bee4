"""The spool of run tables: any part of it is the same part of the whole."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.analyze import runspool
from netdump.analyze.runspool import RunSpool
from netdump.errors import StorageFaultError
from netdump.store.runtables import RunTable
from netdump.testing.sample_dump import SampleDump
from netdump.wire import unpack_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DUMP = SampleDump(seed=3, image_bytes=400_000, chunk_bytes=5000)
TABLES = [RunTable(chunk.offset, chunk.length, chunk.table) for chunk in DUMP.chunks]


def model(start: int, end: int, upto: int) -> list[tuple[int, int, int, int]]:
    """The runs of all tables, joined where they are one, clipped."""
    pieces: list[tuple[int, int, int, int]] = []
    for table in TABLES[:upto]:
        place = table.offset
        for run in unpack_runs(table.table, table.offset, table.length):
            begin, stop = max(start, place), min(end, place + run.length)
            if begin < stop:
                if pieces and pieces[-1][1:] == (begin, int(run.state), int(run.exclude)):
                    begin = pieces.pop()[0]
                pieces.append((begin, stop, int(run.state), int(run.exclude)))
            place += run.length
    return pieces


@pytest.fixture(params=[0, 100, 1 << 16], ids=lambda size: f"blocks of {size}")
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runspool, "_BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("upto", [0, 1, 30, len(TABLES)])
def test_every_part_is_that_of_the_whole(upto: int) -> None:
    with RunSpool(TABLES[:upto]) as spool:
        assert spool.end == sum(table.length for table in TABLES[:upto])
        assert spool.totals.image_bytes == spool.end

        @settings(derandomize=True, deadline=None, max_examples=60)
        @given(st.integers(0, 410_000), st.integers(0, 410_000))
        def check(one: int, other: int) -> None:
            start, end = sorted((one, other))
            assert list(spool.pieces(start, end)) == model(start, end, upto)

        check()
        assert list(spool.pieces(0, 400_000)) == model(0, 400_000, upto)


def test_two_readers_do_not_disturb_each_other() -> None:
    with RunSpool(TABLES) as spool:
        first, second = spool.pieces(0, 400_000), spool.pieces(200_000, 400_000)
        joined = [piece for pair in zip(first, second, strict=False) for piece in pair]
        assert joined[0::2] == model(0, 400_000, len(TABLES))[: len(joined) // 2]
        assert joined[1::2] == model(200_000, 400_000, len(TABLES))[: len(joined) // 2]


def test_an_error_of_the_tables_goes_through(tmp_path: Path) -> None:
    def tables() -> Iterator[RunTable]:
        yield TABLES[0]
        raise StorageFaultError("gone")

    with pytest.raises(StorageFaultError, match="gone"):
        RunSpool(tables(), tmp_path)
    with pytest.raises(AssertionError, match="follow"):
        RunSpool(TABLES[1:], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(StorageFaultError, match="keeping the run tables: No space"):
        RunSpool(TABLES)
