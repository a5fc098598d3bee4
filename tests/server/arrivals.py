"""An arrival with a real store and no connection, and everything around it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from netdump import wire
from netdump.errors import PkiError, RemoteProtocolError
from netdump.server.arrival import Arrival, ArrivalContext
from netdump.server.config import Ingest, Space, Storage
from netdump.server.space import Measure, Room, SpaceWatch
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.sample_dump import SampleDump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from netdump.store.recovery import Durable
    from netdump.store.writer import DumpWriter

MIB = 1 << 20
PLENTY = Measure(1 << 40, 1 << 41)
NONE = Measure(0, 1 << 41)
DUMP = SampleDump(seed=21, image_bytes=300_000, chunk_bytes=16_384)


class Line:
    """A connection that remembers what it was told, in order."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.forgotten: list[bytes] = []
        self.credits: list[int] = []
        self.introductions = 0
        self.arrival: Arrival | None = None
        self.holding = False
        self.changed = asyncio.Event()

    def _say(self, word: object, *, last: bool = False) -> None:
        self.said.append(word)
        self.changed.set()
        if last:
            assert self.arrival is not None
            self.arrival.end()

    def acknowledge(self, offset: int, credit: int | None = None) -> None:
        if credit is not None:
            self.credits.append(credit)
        self._say(offset)

    def forget(self, frames: Iterable[wire.Buffer]) -> None:
        self.forgotten += map(bytes, frames)
        self.changed.set()

    def introduced(self) -> None:
        self.introductions += 1

    def conclude(self, message: wire.Receipt) -> None:
        self._say(message, last=True)

    def breach(self, error: RemoteProtocolError) -> None:
        self._say(error.reason, last=True)

    def fail(self, code: wire.ErrorCode, text: str) -> None:
        self._say(code, last=True)

    def hold(self) -> None:
        assert not self.holding
        self.holding = True
        self._say("hold")

    def release(self) -> None:
        assert self.holding
        self.holding = False
        self._say("release")

    async def until(self, word: object) -> None:
        while word not in self.said:
            self.changed.clear()
            await self.changed.wait()

    async def until_forgotten(self, frames: int) -> None:
        while len(self.forgotten) < frames:
            self.changed.clear()
            await self.changed.wait()


class Journal:
    def __init__(self) -> None:
        self.headlines = 0
        self.progress: list[tuple[Durable, int]] = []
        self.waiting = asyncio.Event()

    def headline_stored(self) -> None:
        self.headlines += 1

    def progressed(self, durable: Durable, stored_bytes: int) -> None:
        self.progress.append((durable, stored_bytes))

    def waits(self) -> None:
        self.waiting.set()


def sign(writer: DumpWriter) -> wire.Receipt:
    assert writer.manifest is not None
    return wire.Receipt(writer.manifest.root, b"receipt")


def cannot_sign(_writer: DumpWriter) -> wire.Receipt:
    raise PkiError("the key is gone")


class Bench:
    """An arrival of DUMP, and everything around it."""

    def __init__(
        self, root: Path, dump: SampleDump, ingest: Ingest, storage: Storage, quota_bytes: int, *, admitted: bool
    ) -> None:
        self.files = FaultyFiles(LocalFiles(root))
        self.store = Store(root, self.files)
        self.line, self.journal = Line(), Journal()
        self.room = PLENTY
        self.credit = ingest.credit_bytes
        self.space = SpaceWatch(Space(check_s=300), lambda: self.room)
        self.look: Callable[[], Room] = self.space.look
        self.writer = self.store.open_writer(dump.origin)
        self.pools = ThreadPoolExecutor(2), ThreadPoolExecutor(2, "disks"), ThreadPoolExecutor(1, "headlines")
        self.sign: Callable[[DumpWriter], wire.Receipt] = sign
        self.context = ArrivalContext(
            *self.pools,
            self.space,
            ingest,
            storage,
            lambda writer: self.sign(writer),  # noqa: PLW0108  # the one of that moment
            lambda: self.look(),  # noqa: PLW0108  # the same
        )
        self.quota_bytes = quota_bytes
        self.arrival = self.line.arrival = Arrival(
            self.line,
            self.writer,
            self.context,
            self.journal,
            admitted=admitted,
            may_store=self.may_store,
            credit=lambda: self.credit,
        )
        self.dump = dump

    def may_store(self, more_bytes: int) -> bool:
        self.quota_bytes -= more_bytes
        return self.quota_bytes >= 0

    def bring(self, chunks: Sequence[wire.Chunk]) -> None:
        for chunk in chunks:
            self.arrival.take(chunk)

    def finish(self, root: bytes | None = None) -> None:
        dump = self.dump
        self.arrival.take(wire.Finish(dump.origin.image_bytes, len(dump.chunks), root or dump.root))

    @property
    def durable(self) -> int:
        """What another look at the disk finds."""
        return self.store.dump(self.dump.origin.id).durable.offset

    @property
    def acked(self) -> list[int]:
        return [word for word in self.line.said if type(word) is int]


@asynccontextmanager
async def bench(
    tmp_path: Path,
    dump: SampleDump = DUMP,
    *,
    ingest: Ingest | None = None,
    storage: Storage | None = None,
    quota_bytes: int = 1 << 40,
    admitted: bool = True,
) -> AsyncIterator[Bench]:
    root = tmp_path / "dumps"
    root.mkdir(exist_ok=True)
    bench = Bench(root, dump, ingest or Ingest(), storage or Storage(), quota_bytes, admitted=admitted)
    try:
        async with asyncio.timeout(90):
            yield bench
    finally:
        for pool in bench.pools:
            pool.shutdown()


def restored(bench: Bench) -> bytes:
    dump = bench.store.dump(bench.dump.origin.id)
    dump.reassemble()
    path = dump.vmcore_path
    assert path is not None
    return path.read_bytes()
