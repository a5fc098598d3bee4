"""The fuzz targets under atheris, which is led by the code that inputs reach; the least looked at come first.

Not deterministic: a finding is kept as a file, which shows it again and belongs into tests/fuzz/corpus. What a run has
come to is added to tests/fuzz (found.py), and is to be committed: so hours add up over runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from tests.campaign.frame import Campaign, Tally
from tests.fuzz.found import Work, found, keep, load_ledger, save_ledger
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from tests.campaign.frame import Budget

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / ".campaign" / "atheris"
SLICE_S: Final = 120.0  # a target gets no less at once: it takes some seconds to begin, and to end
COUNTS: Final = re.compile(r"^#\d+\s.*?cov: (\d+) ", re.MULTILINE)


class _Bench:
    """The targets that wait for their turn, and the processes that run."""

    def __init__(self, budget: Budget, tally: Tally) -> None:
        self._budget = budget
        self._tally = tally
        self._lock = Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._ledger = load_ledger()
        names = [budget.case] if budget.case is not None else list(TARGETS)
        self._waiting = sorted(names, key=lambda name: self._work(name).cpu_s)
        self._slice_s = max(SLICE_S, budget.left * budget.jobs / len(names))

    def work(self) -> None:
        """Take one target after the other until the time is over."""
        while self._budget.left >= 1:
            with self._lock:
                if not self._waiting:
                    return
                name = self._waiting.pop(0)
            self._spend(name, int(max(1.0, min(self._slice_s, self._budget.left))))

    def stop(self) -> None:
        """End what still runs."""
        with self._lock:
            self._budget = replace(self._budget, deadline=0.0)
            for process in self._processes:
                process.kill()

    def _work(self, name: str) -> Work:
        return self._ledger.get(name, Work())

    def _spend(self, name: str, seconds: int) -> None:
        """Fuzz a target, and keep what that comes to."""
        status, cpu_s, told = self._call(name, str(seconds), str(WORK / name))
        executed = re.search(r"number_of_executed_units: (\d+)", told)
        inputs = int(executed[1]) if executed else 0
        with self._lock:
            if self._budget.deadline == 0.0:
                return
            if status != 0:
                self._tally.find(name, f"{name}, kept in {WORK / name}: {told[-1000:]}")
            self._ledger[name] = self._work(name).more(cpu_s, inputs, int(status != 0))
            save_ledger(self._ledger)
            self._tally.count("targets")
            self._tally.count("inputs", inputs)
            self._tally.count("CPU seconds", round(cpu_s))
        self._merge(name)

    def _merge(self, name: str) -> None:
        status, _, told = self._call(name, "--merge", str(WORK / name))
        if status != 0 or self._budget.deadline == 0.0:
            return  # an input that is a finding ends merging; nothing is lost, the next run has all of it
        kept = keep(name, [path.read_bytes() for path in (WORK / name / "inputs").iterdir()] or found(name))
        edges = max(map(int, COUNTS.findall(told)), default=0)
        with self._lock:
            self._ledger[name] = replace(self._work(name), kept=kept, edges=edges)
            save_ledger(self._ledger)

    def _call(self, *words: str) -> tuple[int, float, str]:
        """Run tests.fuzz; its exit status, processor time and messages."""
        told = WORK / f"{words[0]}.log"
        told.parent.mkdir(parents=True, exist_ok=True)
        with told.open("wb") as log, self._lock:
            if self._budget.deadline == 0.0:
                return -1, 0.0, "stopped"
            command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz", *words]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
            self._processes.add(process)
        _, status, used = os.wait4(process.pid, 0)
        with self._lock:
            process.returncode = os.waitstatus_to_exitcode(status)
            self._processes.discard(process)
        return process.returncode, used.ru_utime + used.ru_stime, told.read_text(errors="replace")


def run(budget: Budget) -> Tally:
    """A share of the time for each target, or all of it for the one that the case names."""
    tally = Tally()
    bench = _Bench(budget, tally)
    with ThreadPoolExecutor(budget.jobs) as pool:
        try:
            for future in [pool.submit(bench.work) for _ in range(budget.jobs)]:
                future.result()
        finally:
            bench.stop()
    return tally


def missing() -> str | None:
    """Atheris has no wheel for every machine and Python."""
    return None if importlib.util.find_spec("atheris") else "needs atheris: pip install -e '.[fuzz]'"


CAMPAIGN = Campaign("coverage", "the same parsers under atheris, led by coverage", run, missing=missing)
