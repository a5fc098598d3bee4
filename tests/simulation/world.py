"""The world of one seed: who may act is found out, one of them is drawn, it acts, and every promise is looked at.

Owns time, chance and order. What happens to the dump is decided by production code; what goes wrong by faults.py.

The promises, looked at after every step:

- acknowledged implies durable and exact: whatever an ACK, RESUME or RECEIPT says is found, byte for byte, on the disk
  that a power cut at this moment would leave (before the message is even on its way);
- what was promised for a dump never becomes less;
- a receipt implies a manifest, all of the image, and the root that the client has computed;
- no dump is ever found damaged, no callback fails;
- what a connection keeps in memory costs no more than its credit, the steps it all takes are bounded by STEPS_MAX;
- nothing is sent again without need: RESUME names all that is durable, and the headline if that is; a client goes on
  exactly there; what a collector has taken is lost only with its process or a fault of its disk; it leaves no more
  than one segment, and half of the credit, unpublished; and what a client has sent beyond RESUME is what its credit
  allowed, for each connection.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING, Any, Final

from netdump import wire
from netdump.errors import NetdumpError
from netdump.pages import PageState
from netdump.store.layout import HEADLINE, SEGMENTS, segment_range
from netdump.store.restore import placed_runs
from netdump.store.segment import SegmentReader
from netdump.store.store import Store
from netdump.store.totals import data_bytes
from netdump.testing.faulty_files import Stopped
from netdump.testing.memory_files import MemoryFiles
from netdump.wire import CHUNK_COST_FLOOR, CREDIT_MIN, SEGMENT_HEADER_BYTES
from tests.simulation.client import SimulatedClient
from tests.simulation.collector import ROOT, SimulatedCollector
from tests.simulation.network import Cable

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.store.writer import DumpWriter
    from netdump.testing.sample_dump import SampleDump

STEPS_MAX: Final = 60_000


class ViolationError(AssertionError):
    """A promise was broken."""


class Promise:
    """What was said of one dump. durable: up to where; complete: by a receipt, with that root."""

    def __init__(self, sample: SampleDump) -> None:
        self.sample = sample
        self.durable = -1  # nothing: not even that it is known
        self.root: bytes | None = None
        self.taken = -1  # up to where a collector that still lives has stored chunks, durable or not
        self.sound: set[bytes] = set()  # digests of segment files that were found exact


class World:
    """Everything there is. seed: what happens."""

    def __init__(self, seed: int, publish: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.leap = 0.0  # of the collector's monotonic clock
        self.wall = 1_700_000_000.0
        self.steps = 0
        self.acks = 0
        self.disk = MemoryFiles()
        self.collector: SimulatedCollector | None = None
        self.collector_due = 0.0  # when it is started again
        self.disk_idle_until = 0.0  # the thread pools do nothing before
        self.disk_fails = False  # at times; then what was taken may have to be sent again
        self.cables: list[Cable] = []
        self.clients: list[SimulatedClient] = []
        self.promises: dict[bytes, Promise] = {}
        self._publish = publish
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """A digest of everything that has happened."""
        return self._trace.hexdigest()

    def note(self, *what: object) -> None:
        """Something has happened."""
        self._trace.update(repr(what).encode())

    def add_client(self, sample: SampleDump, host: str) -> SimulatedClient:
        """Start a sender."""
        self.promises.setdefault(sample.dump_id, Promise(sample))
        client = SimulatedClient(sample, host, self.random.getrandbits(32), self._connect, lambda: self.now)
        self.clients.append(client)
        return client

    # One step

    def step(self) -> None:
        """Let one of those who can act do so; if nobody can, let time pass."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise ViolationError(f"not done after {STEPS_MAX} steps")
        actions = self._actions()
        if not actions:
            self._pass_time()
            return
        if self.random.random() < 0.01:
            self.now += self.random.expovariate(20)
        name, act = actions[int(self.random.random() * len(actions))]
        self.note(self.steps, name)
        try:
            act()
        except Stopped:
            self.kill_collector("a planned stop")
        self._check_bounds()

    def _actions(self) -> list[tuple[str, Callable[[], None]]]:
        now, found = self.now, []
        collector = self.collector
        if collector is None:
            if now >= self.collector_due:
                found.append(("start", self._start_collector))
        else:
            loop = collector.loop
            if loop.ready or ((due := loop.due()) is not None and due <= now + self.leap):
                found.append(("turn", loop.turn))
            if loop.jobs and now >= self.disk_idle_until:
                found.append(("job", self._do_job))
            if collector.stopped:
                found.append(("end", lambda: self.kill_collector("an orderly end")))
        for cable in self.cables:
            if collector is not None and cable.can_reach_collector(now):
                found.append(("up", lambda cable=cable: self._up(cable)))  # type: ignore[misc]
            if cable.can_reach_client(now):
                found.append(("down", lambda cable=cable: self.note(cable.reach_client(self._size()))))  # type: ignore[misc]
        found += [("client", client.turn) for client in self.clients if client.ready(now)]
        return found

    def _pass_time(self) -> None:
        moments = [client.due for client in self.clients if client.running]
        moments += [cable.frozen_until for cable in self.cables if not cable.dead]
        if self.collector is None:
            moments.append(self.collector_due)
        else:
            due = self.collector.loop.due()
            moments += [self.disk_idle_until] if due is None else [self.disk_idle_until, due - self.leap]
        future = [moment for moment in moments if moment > self.now]
        if not future:
            raise ViolationError("nothing will ever happen again")
        self.now = min(future)
        self.cables = [cable for cable in self.cables if not cable.over]
        self.note("time", round(self.now, 6))

    def _size(self) -> int:
        """How much arrives at once: a few bytes, or all there is."""
        return self.random.choice((1, 7, 300, 1500, 9000, 65536, 65536))

    def _up(self, cable: Cable) -> None:
        assert self.collector is not None
        with self.collector.loop.running():
            self.note(cable.reach_collector(self._size()))

    def _do_job(self) -> None:
        assert self.collector is not None
        loop = self.collector.loop
        loop.do_job(int(self.random.random() * len(loop.jobs)))

    # Processes

    def _start_collector(self) -> None:
        try:
            self.collector = SimulatedCollector(
                self.disk, lambda: self.now + self.leap, lambda: self.wall, self._publish
            )
        except NetdumpError as error:
            self.note("no start", str(error))
            self.collector_due = self.now + 5

    def kill_collector(self, why: str, power: str = "stays") -> None:
        """The collector's process ends at once. power: "stays", "cut", "lucky": what is left of what was not synced."""
        collector, self.collector = self.collector, None
        if collector is None:
            return
        self.note("kill", why, power)
        if not collector.stopped:
            for promise in self.promises.values():
                promise.taken = -1
        collector.files.stopped = True
        collector.loop.kill()
        for handle in list(collector.files._handles):
            handle.abandon()
        for cable in self.cables:
            cable.transport.lost = True
            cable.cut()
        if power != "stays":
            self.disk.cut_power(Random(self.random.getrandbits(32)) if power == "lucky" else None)
        self.collector_due = self.now + self.random.choice((0.0, 0.1, 5.0, 40.0))
        self._look_at_disk(self.disk.after_power_cut())

    def unwind(self) -> None:
        """End what still runs where a promise was broken: garbage collection cannot unwind what awaits in a handler."""
        for client in self.clients:
            client.kill()
        if self.collector is not None:
            self.collector.files.stopped = True
            self.collector.loop.kill()

    def _connect(self, client: SimulatedClient) -> Cable | None:
        if self.collector is None or self.collector.stopping is not None:
            return None
        cable = Cable(client.host, self._said)
        cable.client = client
        self.cables.append(cable)
        self.collector.accept(cable)
        return cable

    # The promises

    def _said(self, cable: Cable, frame: bytes) -> None:
        """The collector says something: it must be true now, though nobody has heard it yet."""
        message = wire.unpack(frame)
        assert cable.client is not None
        promise = self.promises[cable.client.sample.dump_id]
        match message:
            case wire.Resume():
                cable.offset = message.offset
                self._promise(promise, message.offset)
                self._look_at_disk(self.disk.after_power_cut())
                self._check_resume(promise, message)
            case wire.Ack():
                self.acks += 1
                self._promise(promise, message.offset)
            case wire.Receipt():
                promise.root = message.root
                self._promise(promise, len(promise.sample.image))
                self._look_at_disk(self.disk.after_power_cut())
            case wire.Decline(code=wire.DeclineCode.DAMAGED):
                raise ViolationError("a dump is declined as damaged")
            case _:
                return
        self.note(type(message).__name__)

    def _promise(self, promise: Promise, offset: int) -> None:
        if offset < promise.durable:
            raise ViolationError(f"the acknowledged offset went from {promise.durable} to {offset}")
        promise.durable = offset
        reached = _look_at_segments(promise, self.disk.after_power_cut())
        if reached < offset:
            raise ViolationError(f"promised up to {offset}, durable up to {reached}")

    def _look_at_disk(self, disk: MemoryFiles) -> None:
        """Does recovery find everything that was promised on this disk? And is it exact?"""
        for promise in self.promises.values():
            if promise.durable < 0:
                continue
            named = _look_at_segments(promise, disk)
            if named < promise.durable:
                raise ViolationError(f"promised up to {promise.durable}, durable up to {named}")
            dump = Store(ROOT, disk).dump(promise.sample.origin.id)
            segments = dump.segments()
            reached = segments[-1].end if segments else 0
            if reached < promise.durable:
                raise ViolationError(f"promised up to {promise.durable}, recovered up to {reached}")
            if promise.root is not None and (dump.manifest is None or dump.manifest.root != promise.root):
                raise ViolationError("there is a receipt, but not the manifest that it is for")

    def _check_bounds(self) -> None:
        collector = self.collector
        if collector is None:
            return
        if collector.loop.mistakes:
            raise ViolationError(f"a callback failed: {collector.loop.mistakes[0]}")
        if collector.damaged:
            raise ViolationError(f"found damaged: {collector.damaged}")
        for arrival in collector.arrivals():
            held = arrival._writer.pending_cost + sum(map(_cost, arrival._queue))
            if held > CREDIT_MIN:
                raise ViolationError(f"cost {held} of one connection in memory")
            self._check_pending(arrival._writer)

    # Nothing is sent again without need

    def _check_pending(self, writer: DumpWriter) -> None:
        """What a collector may lose if it is killed now."""
        promise = self.promises[writer.origin.dump_id]
        if not self.disk_fails:
            promise.taken = max(promise.taken, writer.durable.offset)
            if writer._open is not None:
                promise.taken = max(promise.taken, writer._open.writer.end)
        if writer.pending_bytes >= self._publish + SEGMENT_HEADER_BYTES or 2 * writer.pending_cost >= CREDIT_MIN:
            raise ViolationError(f"{writer.pending_bytes} bytes, cost {writer.pending_cost}, are not published")

    def _check_resume(self, promise: Promise, resume: wire.Resume) -> None:
        disk, dump_id = self.disk.after_power_cut(), promise.sample.origin.id
        reached = _look_at_segments(promise, disk)
        if resume.offset != reached:
            raise ViolationError(f"to be sent again from {resume.offset}, durable up to {reached}")
        if resume.headline != (disk.status(f"{dump_id}/{HEADLINE}") is not None):
            raise ViolationError(f"RESUME says headline={resume.headline}, the disk does not")
        if resume.offset < promise.taken and not self.disk_fails:
            raise ViolationError(f"to be sent again from {resume.offset}, taken up to {promise.taken}")
        for client in self.clients:
            if client.sample is promise.sample:
                self._check_lost(client, resume.offset)

    def _check_lost(self, client: SimulatedClient, offset: int) -> None:
        """What was made on each connection beyond that offset has to be made again."""
        for made in client.made:
            lost = sum(cost for end, cost in made if end > offset)
            made.clear()
            # The last one of a stream that ends in the middle was only made ready.
            if lost > CREDIT_MIN + client.sample.chunk_bytes + CHUNK_COST_FLOOR:
                raise ViolationError(f"cost {lost} is sent again after one connection")

    # The end

    def check_end(self, sample: SampleDump) -> None:
        """The dump is complete: everything about it is as it should be, also after a last power cut."""
        disk = self.disk.after_power_cut()
        store = Store(ROOT, disk)
        dump = store.dump(sample.origin.id)
        dump.reassemble()
        if disk.content(f"{sample.origin.id}/vmcore") != sample.image:
            raise ViolationError("the restored image is not what the client has read")
        ended = [client for client in self.clients if client.outcome is not None and client.sample is sample]
        # A root is compared with one's own; who asks about a dump that is complete already has none.
        sure = [client for client in ended if client.cable is not None and not client.cable.deceived]
        outcomes = {client.outcome.root for client in sure if client.outcome is not None}
        report = dump.verify()
        if not report.ok or dump.manifest is None or report.image_bytes != len(sample.image):
            raise ViolationError(f"complete, but {report}")
        if outcomes - {dump.manifest.root}:
            raise ViolationError("a client was given another root")


def _cost(item: Any) -> int:
    """Of what an arrival has queued, in credit."""
    message = item.message
    return data_bytes(message.table) + CHUNK_COST_FLOOR if isinstance(message, wire.Chunk) else 0


def _look_at_segments(promise: Promise, disk: MemoryFiles) -> int:
    """Up to where there are segments on this disk, exact to the byte.

    By the names and contents of the files alone: what recovery makes of them is looked at when it happens.
    """
    sample, reached = promise.sample, 0
    folder = f"{sample.origin.id}/{SEGMENTS}"
    for name in disk.names(folder):
        start, end = segment_range(name) or (-1, -1)
        if start <= reached < end:
            reached = end
            digest = hashlib.sha256(disk.content(f"{folder}/{name}")).digest()
            if digest not in promise.sound:
                _check_segment(sample, SegmentReader(disk.open(f"{folder}/{name}"), name, sample.dump_id))
                promise.sound.add(digest)
    return reached


def _check_segment(sample: SampleDump, segment: SegmentReader) -> None:
    for stored in segment.chunks():
        for run, place, raw in placed_runs(stored):
            if run.state is PageState.DATA and raw != sample.image[place : place + run.length]:
                raise ViolationError(f"image offset {place} is not what the client has read")
