"""What a check has found.

Owns the four states and how they count together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class State(StrEnum):
    """ok: as it should be. warning: works, but less well than it could. problem: a panic leaves no dump at a collector.

    unknown: could not be looked at, as often without root.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a checkup.

    topic: a word or two that name what was looked at, the same for every machine. fact: what was seen. remedy: what to
    do, "" if nothing is to be done.
    """

    topic: str
    state: State
    fact: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert bool(self.remedy) != (self.state is State.OK), self


def ok(topic: str, fact: str) -> Finding:
    """A finding that needs no remedy."""
    return Finding(topic, State.OK, fact)


def warning(topic: str, fact: str, remedy: str) -> Finding:
    """A finding that is worth mending."""
    return Finding(topic, State.WARNING, fact, remedy)


def problem(topic: str, fact: str, remedy: str) -> Finding:
    """A finding that must be mended."""
    return Finding(topic, State.PROBLEM, fact, remedy)


def unknown(topic: str, fact: str, remedy: str) -> Finding:
    """Something that could not be looked at."""
    return Finding(topic, State.UNKNOWN, fact, remedy)


def count(findings: Iterable[Finding]) -> dict[State, int]:
    """How many findings there are of each state."""
    counts = Counter(finding.state for finding in findings)
    return {state: counts[state] for state in State}
