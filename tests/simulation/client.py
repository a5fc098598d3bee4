"""One life of a sender: the production delivery in a greenlet, which gives way wherever the real one waits."""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING, Any, cast

from greenlet import greenlet

from netdump.client.address import Address
from netdump.client.config import Settings
from netdump.client.delivery import Delivery, Environment, Outcome, Timing
from netdump.client.stream import InlineStream
from netdump.client.tally import Tally
from netdump.codec import Compressor
from netdump.errors import NetdumpError, UnreachableError
from netdump.pages import PageState
from netdump.testing.sample_dump import slice_runs
from netdump.vmcore.plan import PlannedChunk
from netdump.wire import CHUNK_COST_FLOOR, CodecId, Headline
from tests.simulation.network import Cable, SimulatedLink

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from netdump.testing.sample_dump import SampleDump

COLLECTOR = Address("collector", 7461)
DEADLINE_S = 100_000.0
_COMPRESSOR = Compressor(1)


class Killed(BaseException):
    """The process is dead."""


class SimulatedClient:
    """A process that sends one dump.

    connect: makes a cable to the collector, None if nobody is there. clock: its time. outcome, error: how it ended;
    both None: it still runs. made: for each connection, where each chunk that was made ready ends, and its cost.
    """

    def __init__(
        self,
        sample: SampleDump,
        host: str,
        seed: int,
        connect: Callable[[SimulatedClient], Cable | None],
        clock: Callable[[], float],
    ) -> None:
        self.sample = sample
        self.host = host
        self.outcome: Outcome | None = None
        self.error: NetdumpError | None = None
        self.cable: Cable | None = None
        self.made: list[list[tuple[int, int]]] = []
        self._connect = connect
        self._clock = clock
        self._random = Random(seed)
        self._news: Callable[[], bool] = lambda: False
        self._until = 0.0
        self._world = greenlet.getcurrent()
        self._greenlet = greenlet(self._live)

    @property
    def running(self) -> bool:
        return not self._greenlet.dead

    @property
    def due(self) -> float:
        """When it wants to go on even without news."""
        return self._until

    def ready(self, now: float) -> bool:
        return self.running and (now >= self._until or self._news())

    def turn(self) -> None:
        """Let it run until it waits again."""
        self._greenlet.switch()

    def kill(self) -> None:
        if self._greenlet:
            self._greenlet.throw(Killed)
        elif not self._greenlet.dead:
            self._greenlet = greenlet(lambda: None)  # it had not begun
            self._greenlet.switch()

    def _live(self) -> None:
        image = cast("Any", _Image(self.sample))
        environment = Environment(self._dial, self._open_stream, self._clock, self._sleep, self._random.random)
        timing = Timing(self._clock() + DEADLINE_S, DEADLINE_S)
        delivery = Delivery(
            image, [COLLECTOR], Settings(), timing, environment, console=cast("Any", _Silence()), tally=Tally()
        )
        try:
            self.outcome = delivery.run()
        except NetdumpError as error:
            self.error = error
        except Killed:
            pass

    def _wait(self, news: Callable[[], bool], seconds: float) -> None:
        self._news, self._until = news, self._clock() + seconds
        self._world.switch()

    def _sleep(self, seconds: float) -> None:
        self._wait(lambda: False, seconds)

    def _dial(self, address: Address) -> Any:
        self._sleep(self._random.random() * 0.01)
        self.cable = self._connect(self)
        if self.cable is None:
            raise UnreachableError(f"{address}: connection refused")
        return SimulatedLink(address, self.cable, self._wait)

    def _open_stream(self, offset: int) -> InlineStream:
        assert self.cable is not None
        as_told = offset == self.cable.offset or self.cable.deceived
        assert as_told, f"begins at {offset}, though the collector said {self.cable.offset}"
        self.made.append([])
        return InlineStream(self._plan(offset), _COMPRESSOR if self._random.random() < 0.7 else None, lambda _: None)

    def _plan(self, offset: int) -> Generator[PlannedChunk, None, None]:
        sample, random = self.sample, self._random
        while offset < len(sample.image):
            length = min(random.randint(1, sample.chunk_bytes), len(sample.image) - offset)
            runs, pieces, place = tuple(slice_runs(sample.runs, offset, length)), [], offset
            for run in runs:
                if run.state is PageState.DATA:
                    pieces.append(sample.image[place : place + run.length])
                place += run.length
            data = b"".join(pieces)
            self.made[-1].append((place, len(data) + CHUNK_COST_FLOOR))
            yield PlannedChunk(offset, length, runs, memoryview(data))
            offset += length


class _Image:
    """What a delivery asks of netdump.client.image.Image."""

    def __init__(self, sample: SampleDump) -> None:
        self.dump_id = sample.dump_id
        self.size = len(sample.image)
        self.page_bytes = sample.origin.page_bytes
        self.level = sample.origin.level
        self.name = sample.origin.id[:12]
        self._headline = sample.headline

    def afterword(self) -> str:
        return ""

    def catch_up(self, offset: int) -> Iterator[int]:
        return iter(())

    def headline(self) -> Headline:
        raw = self._headline
        return Headline(CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw)


class _Silence:
    """A console."""

    def say(self, text: object) -> None:
        pass

    detail = warn = progress = say
