"""One life of a collector: the production ingest side over a simulated loop and disk, from its start to its end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from netdump import wire
from netdump.errors import StoreError
from netdump.pki import Identity, Role
from netdump.server.admission import HostGate, Usage
from netdump.server.arrival import ArrivalContext
from netdump.server.bufferpool import BufferPool
from netdump.server.config import Ingest, Limits, Space, Storage
from netdump.server.ingest import IngestService
from netdump.server.reception import Reception
from netdump.server.space import Measure, SpaceWatch
from netdump.store.sealed import seal
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from netdump.server.arrival import Arrival
    from netdump.store.recovery import Durable
    from netdump.store.writer import DumpWriter
    from netdump.testing.memory_files import MemoryFiles
    from tests.simulation.network import Cable

ROOT = Path("dumps")
FREE = 1 << 40
SETTINGS = Ingest(credit_bytes=wire.CREDIT_MIN)
LIMITS = Limits(
    active_dumps=1,
    slow_dumps=1,
    waiting_dumps=1,
    dumps_per_host_per_day=1000,
    connections_per_host=1024,
    connections_per_host_per_minute=60_000,
)


class SimulatedCollector:
    """A process. It ends with kill(), or some time after stop()."""

    def __init__(self, disk: MemoryFiles, clock: Callable[[], float], wall: Callable[[], float], publish: int) -> None:
        """publish: bytes in a segment."""
        self.loop = SimulatedLoop(clock)
        self.files = FaultyFiles(disk)
        self.damaged: set[str] = set()
        self.no_room = False
        self.stopping: asyncio.Task[None] | None = None
        self.store = Store(ROOT, self.files, clock=wall)
        with suppress(StoreError):
            self.store.empty_trash()
        storage = Storage(publish_bytes=publish)
        space = SpaceWatch(Space(), lambda: Measure(0 if self.no_room else FREE, FREE))
        nowhere = cast("Any", None)  # run_in_executor of the simulated loop asks for no pool
        context = ArrivalContext(nowhere, nowhere, nowhere, space, SETTINGS, storage, _receipt_of, space.look)
        reception = Reception(
            self.store,
            context,
            LIMITS,
            recorder=cast("Any", _Recorder(self.damaged)),
            on_complete=lambda _: None,
            audit=_nothing,
            clock=wall,
        )
        self.service = IngestService(
            cast("Any", _Authority()), SETTINGS, HostGate(LIMITS, clock()), reception.attend, _nothing
        )
        self.service._buffers = _Shredder()

    def accept(self, cable: Cable) -> None:
        """A connection has come in, its handshake is done."""
        with self.loop.running():
            self.service.serve(cast("Any", _Visitor(cable)))

    def stop(self) -> None:
        """SIGTERM."""
        if self.stopping is None:
            with self.loop.running():
                self.stopping = self.loop.create_task(self.service.close())

    @property
    def stopped(self) -> bool:
        return self.stopping is not None and self.stopping.done() and not self.loop.jobs

    def arrivals(self) -> list[Arrival]:
        """What is being received."""
        takers = [connection._taker for connection in self.service._connections]
        return [cast("Arrival", taker) for taker in takers if taker is not None]


class _Shredder(BufferPool):
    """Makes sure that a frame which was given back is of no use to anybody."""

    def take(self, size: int) -> memoryview:
        return memoryview(bytearray(size))

    def give(self, frame: wire.Buffer) -> None:
        if isinstance(frame, memoryview):
            buffer = cast("bytearray", frame.obj)
            buffer[:] = bytes(len(buffer))


def _receipt_of(writer: DumpWriter) -> wire.Receipt:
    """As netdump.server.collector.receipt_of, with nobody's signature."""
    manifest, document = writer.manifest, writer.receipt()
    assert manifest is not None
    if not document:
        document = seal(
            {
                "format": "netdump-receipt/1",
                "id": manifest.id,
                "host": manifest.host,
                "image_bytes": manifest.image_bytes,
                "chunks": manifest.chunks,
                "root": manifest.root.hex(),
                "completed": manifest.completed,
                "collector": "collector.example",
                "certificate": "",
                "signature": "",
            }
        )
        writer.put_receipt(document)
    return wire.Receipt(manifest.root, document)


def _nothing(event: str, **fields: object) -> None:
    """An audit."""


class _Authority:
    """Lets every host in; its certificate is its name."""

    def admit(self, der: bytes) -> Identity:
        return Identity(Role.HOST, der.decode(), der.hex().ljust(64, "0")[:64])


class _Visitor:
    """A connection as the listener hands it over."""

    def __init__(self, cable: Cable) -> None:
        self.transport = cable.transport
        self.tls = cable.transport.get_extra_info("ssl_object")
        self.address = "192.0.2.1"

    def vouch(self) -> None:
        pass

    def leave(self) -> None:
        pass


class _Recorder:
    """No index: what is only a view is not simulated, but for what was found damaged."""

    def __init__(self, damaged: set[str]) -> None:
        self._damaged = damaged

    def damaged(self, dump_id: str, remark: str) -> None:
        self._damaged.add(dump_id)

    def is_damaged(self, dump_id: str) -> bool:
        return dump_id in self._damaged

    def refresh(self, dump_id: str) -> None:
        pass

    def usage(self, host: str, now: int, quota_bytes: int) -> Usage:
        return Usage(0, 0)

    def journal(self, dump_id: str, stored_bytes: int) -> _Journal:
        return _Journal()


class _Journal:
    def headline_stored(self) -> None:
        pass

    def progressed(self, durable: Durable, stored_bytes: int) -> None:
        pass

    def waits(self) -> None:
        pass

    def ended(self) -> None:
        pass
