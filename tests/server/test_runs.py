"""Run tables over HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError, NetdumpError
from netdump.index import runstream
from netdump.index.runstream import unpack_stream
from netdump.store.runtables import RunTable
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import Desk, Papers, Rig
from tests.server.test_dumps import store

if TYPE_CHECKING:
    from pathlib import Path

DUMP = SampleDump(seed=92, image_bytes=900_000)
ID = DUMP.origin.id
TABLES = [RunTable(chunk.offset, chunk.length, chunk.table) for chunk in DUMP.chunks]


def as_error(body: bytes) -> NetdumpError:
    return BusyError(body.decode())


def tables(body: bytes) -> list[RunTable]:
    return list(unpack_stream(iter([body]), as_error))


@pytest.mark.parametrize("upto", [None, 41, 0])
def test_what_is_durable_comes(folder: Path, ann: Papers, upto: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runstream, "PIECE_BYTES", 300)
    store(folder, DUMP, upto)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        answer = desk.ask("GET", f"/v1/dumps/{ID[:7]}/runs")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert tables(answer.data) == TABLES[:upto]
        assert (rig.events.wait("runs-read")["dump"], desk.ask("HEAD", f"/v1/dumps/{ID}/runs").data) == (ID[:7], b"")
        assert desk.error("GET", "/v1/dumps/ffff/runs") == (404, "not-found")


def test_damage_at_the_beginning_and_on_the_way(folder: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder, DUMP)
    segment = min((folder / "dumps" / ID / "segments").iterdir())
    sound = segment.read_bytes()
    damaged = bytearray(sound)
    damaged[sound.index(TABLES[5].table)] ^= 0x40
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        segment.write_bytes(damaged)
        assert desk.error("GET", f"/v1/dumps/{ID}/runs") == (500, "damaged")
        monkeypatch.setattr(runstream, "PIECE_BYTES", 1)
        body = desk.ask("GET", f"/v1/dumps/{ID}/runs").data
        stream = unpack_stream(iter([body]), as_error)
        assert [next(stream) for _ in range(5)] == TABLES[:5]
        with pytest.raises(BusyError, match='"code": "damaged"'):
            next(stream)
        segment.write_bytes(sound)
        assert tables(desk.ask("GET", f"/v1/dumps/{ID}/runs").data) == TABLES


def test_who_goes_away_leaves_nothing_open(folder: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runstream, "PIECE_BYTES", 1)
    store(folder, DUMP)
    with Rig(folder) as rig:
        with Desk(rig, ann) as desk:
            answer = desk.ask("GET", f"/v1/dumps/{ID}/runs", preload_content=False)
            assert answer.read(1)
            answer.close()
        with Desk(rig, ann) as desk:
            assert tables(desk.ask("GET", f"/v1/dumps/{ID}/runs").data) == TABLES


def test_a_collector_that_stops_says_so(folder: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder, DUMP)

    def stop(self: object, offset: int) -> None:
        raise BusyError("the collector stops")

    monkeypatch.setattr("netdump.server.api.Desk.keep_on", stop)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        assert desk.error("GET", f"/v1/dumps/{ID}/runs") == (409, "busy")
