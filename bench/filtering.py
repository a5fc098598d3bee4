"""The page filter by itself, in turn with makedumpfile's own exclude step on the same core."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.process import PYTHON, BenchError, Place, run, split_cpus

if TYPE_CHECKING:
    from pathlib import Path

_STEP: Final = re.compile(r"STEP \[Excluding unnecessary pages\]\s*:\s*([\d.]+) seconds")

HEADER: Final = ("core", "pages", "set-up ms", "ms", "ns a page", "peak MiB", "makedumpfile ns a page")


@dataclass(frozen=True, slots=True)
class Speed:
    """Median of all rounds."""

    pages: int
    seconds: float
    setup_seconds: float
    peak_bytes: int

    @property
    def ns(self) -> float:
        """Nanoseconds a page."""
        return self.seconds / self.pages * 1e9

    def cells(self, theirs: float) -> tuple[str, ...]:
        """The cells of HEADER behind the core's. theirs: ns a page of makedumpfile, or 0."""
        return (
            f"{self.pages:,}",
            f"{self.setup_seconds * 1e3:.0f}",
            f"{self.seconds * 1e3:,.1f}",
            f"{self.ns:.1f}",
            f"{self.peak_bytes / (1 << 20):.1f}",
            f"{theirs:.1f}" if theirs else "-",
        )


def compare(core: Path, folder: Path, rounds: int, *, peers: bool) -> tuple[Speed, float]:
    """Our speed, and makedumpfile's in ns a page (0 without peers), on one CPU. Raises BenchError."""
    cpu, _ = split_cpus()
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(json.loads(run([PYTHON, "-m", "bench.filterspeed", str(core)], Place(cpu))))
        if peers:
            theirs.append(_exclude_step(core, folder / "filtered", Place(cpu)))
    one = ours[0]
    speed = Speed(
        one["pages"],
        median(each["seconds"] for each in ours),
        median(each["setup_seconds"] for each in ours),
        max(each["peak_bytes"] for each in ours),
    )
    return speed, median(theirs) / speed.pages * 1e9 if theirs else 0.0


def _exclude_step(core: Path, target: Path, place: Place) -> float:
    """Seconds, all passes together."""
    said = run(["sh", "-c", f"makedumpfile --message-level 31 -f -l -d 31 {core} {target} 2>&1"], place)
    target.unlink()
    steps = _STEP.findall(said)
    if not steps:
        raise BenchError(f"makedumpfile does not tell of its exclude step:\n{said[-1000:]}")
    return sum(map(float, steps))
