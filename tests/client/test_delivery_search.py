"""Whoever takes a dump in the end gets it, whatever it and others do before: client and init, on a played clock."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from netdump.client.address import Address
from netdump.client.config import Settings
from netdump.client.delivery import Delivery, Environment, Timing
from netdump.client.tally import Tally
from netdump.errors import (
    ImpostorError,
    NetdumpError,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
)
from netdump.image.init.restarts import CLIENT_GRACE, DOUBTFUL, Restarts
from netdump.wire import Decline, DeclineCode, Defer, Error, ErrorCode
from tests.client.played import DONE, IMAGE, Play, PlayedLink, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = [Address(name, 1) for name in "abcd"]
DEADLINE = 3600.0
FROM_THE_START = (5, 30, 100, 250, 600)  # seconds until it takes the dump
DELAY_MAX = 500.0  # until it is asked then
STEPS = [
    *(Step(UnreachableError("away"), dialled=False, seconds=seconds) for seconds in (0, 10, 40)),
    *(Step(UnreachableError("cut"), seconds=seconds, resumes=0) for seconds in (1, 60)),
    Step(UnreachableError("stalled"), seconds=60, durable=5000, resumes=5000),
    *(Step(Defer(seconds)) for seconds in (1, 15, 60)),
    *(Step(Error(code)) for code in (ErrorCode.INTERNAL, ErrorCode.STORAGE, ErrorCode.FENCED, ErrorCode.BAD_DIGEST)),
    Step(RemoteProtocolError("unexpected-message", "no TLS"), dialled=False),
    Step(ImpostorError("who?"), dialled=False),
    Step(RefusedError("go"), dialled=False),
]
FINAL = [Step(Decline(DeclineCode.QUOTA)), Step(Error(ErrorCode.NOT_ALLOWED))]
TAKES = Step(DONE, seconds=5, durable=1)


class Silence:
    """A console that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Phase(NamedTuple):
    """What a collector does until then."""

    until: float
    step: Step


class World(Play):
    """Collectors that change with time."""

    plans: Mapping[Address, Sequence[Phase]]

    def dial(self, address: Address) -> Any:
        self.tried.append((address.host, self.now))
        step = next(phase.step for phase in self.plans[address] if self.now < phase.until)
        if isinstance(step.result, NetdumpError) and not step.dialled:
            self.now += step.seconds
            raise step.result
        return PlayedLink(step, self.blamed)

    def client(self, left: float, random: Random) -> int:
        """One life of the client. Returns its exit status."""
        seconds = max(5.0, left - CLIENT_GRACE)
        environment = Environment(self.dial, IMAGE.stream, lambda: self.now, self.sleep, random.random)
        timing = Timing(self.now + seconds, seconds)
        words: Any = IMAGE, list(self.plans), Settings(), timing, environment
        try:
            Delivery(*words, console=Silence(), tally=Tally()).run()  # type: ignore[arg-type]
        except NetdumpError as error:
            return error.exit_status
        return 0

    def init(self, random: Random) -> int:
        """A life of the capture kernel. Returns the last exit status of the client."""
        restarts, end = Restarts(), self.now + DEADLINE
        while True:
            status = self.client(end - self.now, random)
            if status == 0 or self.now >= end:
                return status
            verdict = restarts.judge(status, 0, self.now, end - self.now)
            if verdict.pause is None:
                return status
            self.now += verdict.pause + 2


def phases(random: Random, steps: list[Step], end: float) -> list[Phase]:
    found, now = list[Phase](), 0.0
    while now < end:
        now += random.choice([5, 20, 60, 200, 1000, end])
        found.append(Phase(min(now, end), random.choice(steps)))
    return found


@pytest.mark.parametrize("seed", range(0, 2000, 100))
def test_who_takes_it_in_the_end_gets_it(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = World(monkeypatch)
    for number in range(seed, seed + 100):
        random = Random(number)
        addresses = NAMES[: random.choice([1, 2, 2, 3, 3, 4])]
        world.now, takes_from = 0.0, float(random.choice(FROM_THE_START))
        world.plans = {address: phases(random, STEPS + FINAL, 2 * DEADLINE) for address in addresses}
        good = random.choice(addresses)
        world.plans[good] = [*phases(random, STEPS, takes_from), Phase(2 * DEADLINE, TAKES)]
        status = world.init(random)
        if status not in DOUBTFUL:  # none but such for three minutes: that is the end
            assert status == 0, number
            assert world.now < takes_from + DELAY_MAX, number
