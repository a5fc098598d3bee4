"""Segments over HTTPS, packed on the way."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from netdump.client.tcpinfo import DeliveryRate
from netdump.index.packing import Packer, unpack_pieces
from netdump.server import packed
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import Desk, Papers, Rig
from tests.server.test_dumps import store

if TYPE_CHECKING:
    from netdump.server import api

DUMP = SampleDump(seed=93, image_bytes=900_000)
ID = DUMP.origin.id


def unpacked(body: bytes) -> bytes:
    return b"".join(piece for piece, _ in unpack_pieces(io.BytesIO(body).read))


def is_open(path: Path) -> bool:
    """Whether this process, which is the collector too, has a file open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(link.readlink())
    return path in found


@pytest.fixture
def stored(folder: Path) -> Path:
    store(folder, DUMP)
    return folder


def test_what_is_left_of_a_segment_comes_from_any_position(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        for segment in sorted((stored / "dumps" / ID / "segments").iterdir()):
            content = segment.read_bytes()
            path = f"/v1/dumps/{ID[:8]}/segments/{segment.name}/packed"
            answer = desk.ask("GET", f"{path}?always=1")
            assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
            assert unpacked(answer.data) == content
            for start in (0, 1, len(content) - 1, len(content), len(content) + 10, 10**15 - 1):
                for always in (0, 1):
                    body = desk.ask("GET", f"{path}?from={start}&always={always}").data
                    assert unpacked(body) == content[start:]
            assert desk.ask("HEAD", path).data == b""


def test_it_is_smaller(stored: Path, ann: Papers) -> None:
    place = stored / "dumps" / ID / "segments"
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        name = f"{0:016x}-{9:016x}.seg"
        content = b"the same again and again " * 200_000 + os.urandom(2 << 20)
        (place / name).write_bytes(content)
        body = desk.ask("GET", f"/v1/dumps/{ID}/segments/{name}/packed?always=1").data
        assert unpacked(body) == content
        assert len(body) < (2 << 20) + 100_000


@pytest.mark.parametrize(("rate", "packed"), [(1e6, True), (1e9, False)])
def test_by_itself_it_packs_for_a_slow_network_only(
    stored: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch, rate: float, *, packed: bool
) -> None:
    def read(network: DeliveryRate) -> float:
        network.rate, network.sure = rate, True
        return rate

    monkeypatch.setattr(DeliveryRate, "read", read)
    place = stored / "dumps" / ID / "segments"
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        name = f"{0:016x}-{9:016x}.seg"
        (place / name).write_bytes(bytes(3 << 20))
        body = desk.ask("GET", f"/v1/dumps/{ID}/segments/{name}/packed").data
        assert unpacked(body) == bytes(3 << 20)
        assert (len(body) < 1 << 20) is packed


@pytest.mark.parametrize("start", ["-1", "x", "", "1e3", "9" * 16, "٣"])
def test_positions_that_are_none(stored: Path, ann: Papers, start: str) -> None:
    segment = next((stored / "dumps" / ID / "segments").iterdir()).name
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        assert desk.error("GET", f"/v1/dumps/{ID}/segments/{segment}/packed?from={start}") == (400, "bad-request")


def test_segments_that_are_not_there(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        for name in ("x", "vmcore", f"{0:016x}-{9:016x}.seg"):
            assert desk.error("GET", f"/v1/dumps/{ID}/segments/{name}/packed") == (404, "not-found")


def test_who_goes_away_leaves_nothing_open(stored: Path, ann: Papers) -> None:
    name = f"{0:016x}-{9:016x}.seg"
    path = stored / "dumps" / ID / "segments" / name
    path.write_bytes(os.urandom(8 << 20))
    with Rig(stored) as rig:
        for always in (0, 1):
            with Desk(rig, ann) as desk:
                asked = f"/v1/dumps/{ID}/segments/{name}/packed?always={always}"
                answer = desk.ask("GET", asked, preload_content=False)
                assert answer.read(1)
                assert is_open(path)
                answer.close()
            deadline = time.monotonic() + 10
            while is_open(path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with Desk(rig, ann) as desk:
            assert len(unpacked(desk.ask("GET", f"/v1/dumps/{ID}/segments/{name}/packed").data)) == 8 << 20


@pytest.mark.asyncio
async def test_who_goes_away_frees_no_place_that_is_still_worked_at() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Packer):
        def pack(self, piece: bytes) -> bytes:
            begun.set()
            assert go_on.wait(20)
            return super().pack(piece)

    slow = Slow()
    desk = cast("api.Desk", SimpleNamespace(packings=asyncio.Semaphore(1), packers=[slow]))
    first = asyncio.create_task(packed._packed(b"piece" * 1000, desk))
    await asyncio.to_thread(begun.wait, 20)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(packed._packed(b"other" * 1000, desk))
    await asyncio.sleep(0)
    assert (desk.packings.locked(), desk.packers) == (True, [])
    go_on.set()
    assert unpacked(await second) == b"other" * 1000
    assert desk.packers == [slow]
    assert not desk.packings.locked()
