"""Rounds of the same job done by different programs, in turn: what disturbs the machine disturbs them all.

A contestant that is hopelessly slower than the best leaves after LEAST_ROUNDS: five rounds of it would only take time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.process import Cost, Launcher, Place

LEAST_ROUNDS: Final = 2
HOPELESS: Final = 4.0  # times as slow as the best so far


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program at the job of a contest.

    prepare: called before each round, returns the argument list. finish: called after each round, outside of the time
    measured; checks what has arrived, removes it, and returns the bytes that crossed the wire. ours: it is netdump.
    bare: it is no program that anybody could use, but what none can go below.
    """

    name: str
    place: Place
    prepare: Callable[[], Sequence[str]]
    finish: Callable[[], int]
    ours: bool = False
    bare: bool = False


@dataclass(slots=True)
class Result:
    """What one contestant did."""

    name: str
    ours: bool
    costs: list[Cost] = field(default_factory=list)
    wire_bytes: int = 0
    bare: bool = False

    @property
    def seconds(self) -> float:
        """The median."""
        return median(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """The median of the client's side."""
        return median(cost.cpu_seconds for cost in self.costs)

    @property
    def peak_bytes(self) -> int:
        """The largest of all rounds."""
        return max(cost.peak_bytes for cost in self.costs)

    def members(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "name": self.name,
            "ours": self.ours,
            "seconds": round(self.seconds, 4),
            "rounds": [round(cost.seconds, 4) for cost in self.costs],
            "cpu_seconds": round(self.cpu_seconds, 4),
            "peak_bytes": self.peak_bytes,
            "wire_bytes": self.wire_bytes,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """A contest that is over. key: names it in budgets.toml; title: for people."""

    key: str
    title: str
    results: list[Result]

    @property
    def best_peer(self) -> Result:
        """The fastest program that is not netdump."""
        return min(
            (result for result in self.results if not (result.ours or result.bare)), key=lambda result: result.seconds
        )

    def ours(self, name: str = "") -> Result:
        """The first netdump, or the one of that name."""
        return next(result for result in self.results if result.ours and name in {"", result.name})

    @property
    def ratio(self) -> float:
        """Time of the first netdump as a share of the best peer's, the two compared round by round."""
        return self.share(self.ours())

    def share(self, result: Result) -> float:
        """Time of a result as a share of the best peer's: the median over the rounds that both ran."""
        pairs = zip(result.costs, self.best_peer.costs, strict=False)
        return median(mine.seconds / theirs.seconds for mine, theirs in pairs)

    def members(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "key": self.key,
            "title": self.title,
            "ratio": round(self.ratio, 4),
            "best_peer": self.best_peer.name,
            "results": [result.members() for result in self.results],
        }


def hold(
    key: str,
    title: str,
    contestants: Sequence[Contestant],
    launcher: Launcher,
    *,
    rounds: int,
    say: Callable[[str], None],
    warm: bool = True,
) -> Outcome:
    """Let the contestants run in turn, rounds times; warm: after a first round that does not count."""
    results = [Result(each.name, each.ours, bare=each.bare) for each in contestants]
    for number in range(-warm, rounds):
        for contestant, result in zip(contestants, results, strict=True):
            if number < 0 or not _is_hopeless(result, results):
                _run(contestant, result, launcher, counts=number >= 0)
    outcome = Outcome(key, title, results)
    say(f"{title}: " + ", ".join(f"{result.name} {result.seconds:.2f} s" for result in results))
    return outcome


def _run(contestant: Contestant, result: Result, launcher: Launcher, *, counts: bool) -> None:
    argv = contestant.prepare()
    cost = launcher.measure(argv, contestant.place)
    result.wire_bytes = contestant.finish()
    if counts:
        result.costs.append(cost)


def _is_hopeless(result: Result, results: Sequence[Result]) -> bool:
    if result.ours or len(result.costs) < LEAST_ROUNDS:
        return False
    return result.seconds > HOPELESS * min(other.seconds for other in results if other.costs)
