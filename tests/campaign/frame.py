"""What every campaign has in common: a name, a seed, a budget, counters, findings, and a command that reproduces one.

A campaign looks at *cases*, numbered from the seed on: case N is the same on every machine and at every time, so
`./run campaign NAME --case N` shows again what a run has found. It stops when its time is over, or when it has looked
at every case there is.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import pkgutil
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any, cast

import tests.campaign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

FINDINGS_KEPT = 20
DIGEST_BYTES = 8


@dataclass(frozen=True)
class Finding:
    """One fault. case: what `--case` takes to show it again."""

    case: str
    symptom: str


@dataclass
class Tally:
    """What a campaign has done. counts: by what was counted, such as "scenarios". findings: the first of them.

    cases: how many it has looked at. seen: hashes of what counts once.
    """

    cases: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    notes: list[str] = field(default_factory=list)
    seen: dict[str, set[bytes]] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def distinct(self, what: str, digest: bytes) -> None:
        """Count something that counts once, however often it is met. digest: a hash that tells it from others."""
        seen = self.seen.setdefault(what, set())
        seen.add(digest[:DIGEST_BYTES])
        self.counts[what] = len(seen)

    def find(self, case: object, symptom: str) -> None:
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(Finding(str(case), symptom))
        else:
            self.more_findings += 1

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        for what, number in other.counts.items():
            if what in other.seen:
                self.seen.setdefault(what, set()).update(other.seen[what])
                self.counts[what] = len(self.seen[what])
            else:
                self.count(what, number)
        for finding in other.findings:
            self.find(finding.case, finding.symptom)
        self.more_findings += other.more_findings
        self.notes += [note for note in other.notes if note not in self.notes]


@dataclass(frozen=True)
class Budget:
    """How much a campaign may do.

    deadline: of time.monotonic. case: look at this one only. jobs: processes at once. cases: look at no more.
    """

    seed: int
    deadline: float
    case: str | None = None
    jobs: int = 1
    cases: int | None = None

    @classmethod
    def of(
        cls, seconds: float, seed: int = 1, case: str | None = None, jobs: int = 1, cases: int | None = None
    ) -> Budget:
        return cls(seed, time.monotonic() + seconds, case, jobs, cases)

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline


@dataclass(frozen=True)
class Campaign:
    """One campaign. summary: what it does, for the table. run: looks at cases until the budget is spent.

    missing: says what it lacks on this machine, None if nothing; it is skipped then. quick: how many cases every
    landing looks at (`--quick`); 0: none. least: what these come to at least, by what is counted: a harness that looks
    at nothing finds nothing.
    """

    name: str
    summary: str
    run: Callable[[Budget], Tally]
    quick: int = 0
    missing: Callable[[], str | None] = lambda: None
    least: Mapping[str, int] = field(default_factory=dict)

    def check_quick(self, tally: Tally) -> None:
        """Add a finding if its quick part has looked at less than that."""
        for what, number in self.least.items():
            if (seen := tally.counts.get(what, 0)) < number:
                tally.find("campaign", f"only {seen:,} {what}, where every landing looks at {number:,}")


@dataclass(frozen=True)
class Result:
    """What a run of a campaign came to, as it is kept."""

    name: str
    summary: str
    seed: int
    seconds: int
    tally: Tally
    skipped: str | None

    @property
    def next_seed(self) -> int:
        """Where to go on."""
        return self.seed + self.tally.cases

    def after(self, before: Result) -> Result:
        """This one together with an earlier one, which it goes on from."""
        assert self.seed == before.next_seed
        tally = Tally()
        tally.add(before.tally)
        tally.add(self.tally)
        return replace(self, seed=before.seed, seconds=before.seconds + self.seconds, tally=tally)

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        content = asdict(self)
        content["tally"]["seen"] = {
            what: base64.b64encode(b"".join(sorted(seen))).decode() for what, seen in self.tally.seen.items()
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Result:
        content = json.loads(path.read_text())
        tally = Tally(**content.pop("tally"))
        tally.findings = [Finding(**finding) for finding in cast("Any", tally.findings)]
        tally.seen = {what: _digests(base64.b64decode(seen)) for what, seen in cast("Any", tally.seen).items()}
        return cls(tally=tally, **content)


def _digests(joined: bytes) -> set[bytes]:
    return {joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)}


def campaigns() -> dict[str, Campaign]:
    """All campaigns by name."""
    found = {}
    for module in pkgutil.iter_modules(tests.campaign.__path__):
        if module.name.startswith("test_") or module.name == "__main__":
            continue
        campaign = getattr(importlib.import_module(f"{tests.campaign.__name__}.{module.name}"), "CAMPAIGN", None)
        if campaign is not None:
            found[campaign.name] = campaign
    return dict(sorted(found.items()))


def carry_out(campaign: Campaign, budget: Budget) -> Result:
    """Run a campaign. A mistake of the campaign itself is a finding too."""
    begun = time.monotonic()
    lacking = campaign.missing()
    tally = Tally()
    if lacking is None:
        try:
            tally = campaign.run(budget)
        except Exception:
            tally.find("campaign", traceback.format_exc())
    tally.counts = dict(sorted(tally.counts.items()))
    seconds = round(time.monotonic() - begun)
    return Result(campaign.name, campaign.summary, budget.seed, seconds, tally, lacking)


def look_at(case: int, look: Callable[[int, Tally], None], tally: Tally) -> None:
    """Look at one case; whatever it raises is a finding."""
    try:
        look(case, tally)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        tally.find(case, f"{type(error).__name__} at {place}: {error}")


def seeded(budget: Budget, look: Callable[[int, Tally], None], batch: int = 50) -> Tally:
    """Look at the cases seed, seed + 1, ... until the time is over. look: a function of a module, for processes."""
    return numbered(budget, look, count(budget.seed), batch)


def numbered(budget: Budget, look: Callable[[int, Tally], None], cases: Iterable[int], batch: int = 50) -> Tally:
    """Look at these cases, in budget.jobs processes, until the time is over."""
    tally = Tally()
    if budget.case is not None:
        look(int(budget.case), tally)  # what it raises shall be seen with its frames
        return tally
    batches = _batches(islice(cases, budget.cases), batch)
    if budget.jobs == 1:
        for numbers in batches:
            tally.add(_look_at_all(numbers, look))
            if budget.over:
                break
        return tally
    with ProcessPoolExecutor(budget.jobs) as pool:
        pending = {pool.submit(_look_at_all, numbers, look) for numbers in islice(batches, 2 * budget.jobs)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    tally.add(future.result())
                    if not budget.over and (numbers := next(batches, [])):
                        pending.add(pool.submit(_look_at_all, numbers, look))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tally


def _batches(cases: Iterator[int], size: int) -> Iterator[list[int]]:
    while numbers := list(islice(cases, size)):
        yield numbers


def _look_at_all(cases: list[int], look: Callable[[int, Tally], None]) -> Tally:
    tally = Tally()
    for case in cases:
        look_at(case, look, tally)
        tally.cases += 1
    return tally
