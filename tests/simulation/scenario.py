"""One scenario: who sends what, what goes wrong and when, until everything is delivered. run(seed) is all of it.

A scenario draws which kinds of fault it knows, how often they come and how many; when they are used up the world heals
(room on the disk, no planned faults), senders that have given up are started again, and all dumps must become complete.
"""

from __future__ import annotations

import errno
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from netdump.testing.faulty_files import Moment
from netdump.testing.sample_dump import SampleDump
from tests.simulation.world import ViolationError, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.client import SimulatedClient
    from tests.simulation.network import Cable

HOST: Final = "web1"
LIVES_MAX: Final = 40
WIDE_EVERY: Final = 150  # one scenario in so many has more chunks than the credit covers
DISK_FAULTS: Final = {"fail_disk", "fill_disk", "low_room", "stop_at_operation"}
ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Run(NamedTuple):
    """What a scenario came to. trace: a digest of all that happened; faults: how many."""

    trace: str
    steps: int
    acks: int
    faults: int


def run(seed: int) -> Run:
    """Play one scenario. Raises ViolationError when a promise is broken."""
    random = Random(f"scenario {seed}")
    wide = seed % WIDE_EVERY == WIDE_EVERY - 1
    world = World(seed, publish=60_000 if wide else random.choice((1, 5_000, 12_000, 40_000)))
    scenario = _Scenario(world, random, wide)
    scenario.play()
    return Run(world.trace, world.steps, world.acks, scenario.faults)


@cache
def sample_dump(number: int, image_bytes: int, chunk_bytes: int) -> SampleDump:
    """Images are made once: what is done with them matters."""
    return SampleDump(number, image_bytes, chunk_bytes)


class _Scenario:
    def __init__(self, world: World, random: Random, wide: bool) -> None:
        self.faults = 0
        self._world = world
        self._random = random
        number, size = random.randrange(4), random.choice((1, 4096, 9000, 20_000, 40_000))
        self._main = (
            sample_dump(number, 300_000, 800) if wide else sample_dump(number, size, random.choice((4000, 12_000)))
        )
        self._wanted: dict[SampleDump, str] = {self._main: HOST}
        if random.random() < 0.3:
            self._wanted[sample_dump(10 + number, 9000, 4000)] = random.choice((HOST, "db2"))
        kinds = sorted(FAULTS)
        self._kinds = random.sample(kinds, random.randint(1, len(kinds)))
        self._left = random.choice((0, 1, 3, 8, 20))
        self._rate = random.choice((0.005, 0.02, 0.1))
        self._lives = 0

    def play(self) -> None:
        try:
            self._play()
        finally:
            self._world.unwind()

    def _play(self) -> None:
        world, random = self._world, self._random
        while self._waiting():
            if self._left and random.random() < self._rate:
                self._left -= 1
                self._go_wrong()
                if not self._left:
                    self._heal()
            self._start_missing()
            world.step()
        for sample in self._wanted:
            world.check_end(sample)
        for client in world.clients:
            client.kill()
        world.kill_collector("the end")

    def _waiting(self) -> bool:
        done = {client.sample for client in self._world.clients if client.outcome is not None}
        return not done.issuperset(self._wanted)

    def _start_missing(self) -> None:
        world = self._world
        running = {client.sample for client in world.clients if client.running or client.outcome is not None}
        for sample, host in self._wanted.items():
            if sample not in running:
                self._lives += 1
                if self._lives > LIVES_MAX:
                    raise ViolationError(f"given up by {LIVES_MAX} senders, last: {world.clients[-1].error}")
                world.add_client(sample, host)

    def _go_wrong(self) -> None:
        kind = self._random.choice(self._kinds)
        self._world.note("fault", kind)
        self._world.disk_fails |= kind in DISK_FAULTS
        if FAULTS[kind](self):
            self.faults += 1

    def _heal(self) -> None:
        """Nothing goes wrong from now on."""
        world = self._world
        world.note("heal")
        if world.collector is not None:
            world.collector.no_room = False
            world.collector.files.make_room()
            world.collector.files.forget_plans()
        for cable in world.cables:
            if cable.dead:
                cable.dead = False
                cable.cut()  # keep-alive probes of TCP find out in the end

    # What goes wrong. Each says whether it did anything.

    def _cable(self) -> Cable | None:
        cables = [cable for cable in self._world.cables if not cable.over]
        return self._random.choice(cables) if cables else None

    def cut(self) -> bool:
        cable = self._cable()
        if cable is not None:
            cable.cut()
        return cable is not None

    def half_open(self) -> bool:
        cable = self._cable()
        if cable is not None:
            cable.dead = True
        return cable is not None

    def stall(self) -> bool:
        cable = self._cable()
        if cable is not None:
            cable.frozen_until = self._world.now + self._random.choice((0.5, 8, 20, 45, 400))
        return cable is not None

    def corrupt(self) -> bool:
        """Something that TLS does not let through: the core must see it, or a digest."""
        cable = self._cable()
        if cable is not None:
            cable.tamper = self._tamper
        return cable is not None

    def corrupt_answers(self) -> bool:
        """The same on the way back: the host may be wrong about how far it is, and never about whether it is done."""
        cable = self._cable()
        if cable is not None:
            cable.tamper_down = self._tamper
        return cable is not None

    def _tamper(self, data: bytearray) -> None:
        random = self._random
        place = random.randrange(len(data))
        match random.randrange(4):
            case 0:
                data[place] ^= 1 << random.randrange(8)
            case 1:
                del data[place : place + random.randint(1, 200)]
            case 2:
                data[place:place] = data[max(0, place - random.randint(1, 4000)) : place]
            case _:
                data[place:place] = random.randbytes(random.randint(1, 20))

    def rearrange(self) -> bool:
        """Whole messages change places, come twice, or not at all: each is sound, the conversation is not."""
        cable = self._cable()
        return cable is not None and cable.rearrange(self._change)

    def _change(self, messages: list[bytes]) -> None:
        place = self._random.randrange(len(messages))
        match self._random.randrange(3):
            case 0:
                messages.insert(self._random.randrange(len(messages) + 1), messages[place])
            case 1:
                del messages[place]
            case _:
                messages.insert(self._random.randrange(len(messages)), messages.pop(place))

    def _client(self) -> SimulatedClient | None:
        clients = [client for client in self._world.clients if client.running]
        return self._random.choice(clients) if clients else None

    def kill_client(self) -> bool:
        client = self._client()
        if client is None:
            return False
        if client.cable is not None and self._random.random() < 0.5:
            client.cable.dead = True  # the machine is gone, nobody says so
        client.kill()
        return True

    def second_client(self) -> bool:
        """Somebody starts the same delivery again while it runs."""
        self._world.add_client(self._main, HOST)
        return True

    def kill_collector(self) -> bool:
        self._world.kill_collector("killed")
        return True

    def cut_power(self) -> bool:
        self._world.kill_collector("power", self._random.choice(("cut", "lucky")))
        return True

    def stop_at_operation(self) -> bool:
        """Killed within one of the next operations on the disk."""
        collector = self._world.collector
        if collector is not None:
            collector.files.stop(self._random.randrange(40), self._random.choice(list(Moment)))
        return collector is not None

    def stop_collector(self) -> bool:
        if self._world.collector is not None:
            self._world.collector.stop()
        return self._world.collector is not None

    def fail_disk(self) -> bool:
        collector = self._world.collector
        if collector is not None:
            collector.files.fail(
                self._random.randrange(30), self._random.choice(ERRORS), self._random.choice((1, 1, 4))
            )
        return collector is not None

    def fill_disk(self) -> bool:
        """Full, or free again."""
        collector = self._world.collector
        if collector is None:
            return False
        if collector.files.full:
            collector.files.make_room()
        else:
            collector.files.fill_up()
        return True

    def low_room(self) -> bool:
        """Less than min_free_bytes, or more again."""
        collector = self._world.collector
        if collector is not None:
            collector.no_room = not collector.no_room
        return collector is not None

    def slow_disk(self) -> bool:
        self._world.disk_idle_until = self._world.now + self._random.choice((0.5, 4, 12, 70))
        return True

    def jump_wall_clock(self) -> bool:
        self._world.wall = self._random.choice((0.0, 1.0, 1_700_000_000.0, 4_102_444_800.0))
        return True

    def leap(self) -> bool:
        """The collector's machine was suspended: its clock is ahead all at once."""
        self._world.leap += self._random.choice((0.5, 6, 31, 3600))
        return True


FAULTS: Final[dict[str, Callable[[_Scenario], bool]]] = {
    fault.__name__: fault
    for fault in (
        _Scenario.cut,
        _Scenario.half_open,
        _Scenario.stall,
        _Scenario.corrupt,
        _Scenario.corrupt_answers,
        _Scenario.rearrange,
        _Scenario.kill_client,
        _Scenario.second_client,
        _Scenario.kill_collector,
        _Scenario.cut_power,
        _Scenario.stop_at_operation,
        _Scenario.stop_collector,
        _Scenario.fail_disk,
        _Scenario.fill_disk,
        _Scenario.low_room,
        _Scenario.slow_disk,
        _Scenario.jump_wall_clock,
        _Scenario.leap,
    )
}
