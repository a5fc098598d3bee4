"""The index on a disk that fails: an error at each single call by which SQLite reads or writes, once or from then on.

The steps of index_life.LIFE are carried out by a process of its own under strace(1), which lets one call on the index
or its journal fail (EIO, ENOSPC) as the kernel would. What that process is told must be of the declared kind, and not
that the index is damaged, for it would be thrown away; but for what cannot be read, where SQLite makes no difference
and a new index is the remedy indeed. A step that failed is done or not, never by half; done again on a disk that is in
order it succeeds; and where the disk stays bad the next process finds what had succeeded.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from netdump.errors import IndexFaultError, StorageFaultError, StoreError
from netdump.index import index as index_module
from netdump.index.index import Index
from netdump.index.place import NAME
from tests.crashes.index_life import LIFE, MEMORY, expected, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.campaign.frame import Tally

CALLS: Final = "openat,pread64,pwrite64,fdatasync,fsync,ftruncate"
_CALL: Final = re.compile(r"^\d+ +(\w+)\(")
Result = TypeVar("Result")


class Fault(NamedTuple):
    """The call of that name, the number-th (from 1), fails with that error; and all that follow, if it stays."""

    call: str
    number: int
    error: str
    stays: bool

    @property
    def option(self) -> str:
        """What strace is told."""
        return f"inject={self.call}:error={self.error}:when={self.number}{'+' if self.stays else ''}"


class _Life:
    """What the process under strace does. told: the faults that it was told of."""

    def __init__(self, path: Path, *, stays: bool, reading: bool) -> None:
        self.done = 0
        self.told: list[str] = []
        self._path = path
        self._tries = 1 if stays else 2
        self._states = expected()
        self._reading = reading

    def live(self) -> None:
        """All steps, each again if it fails; to the first that fails, if the disk stays bad."""
        try:
            with self._insist(lambda: Index.open(self._path)) as index:
                for step in LIFE:
                    self._insist(lambda step=step: step(index), lambda: self._look(index))  # type: ignore[misc]
                    self.done += 1
                    assert self._insist(lambda: rows_of(index)) == self._states[self.done]
        except StoreError:
            assert self._tries == 1

    def _look(self, index: Index) -> None:
        rows = rows_of(index)
        assert rows in self._states[self.done : self.done + 2], f"{len(rows)} rows after a fault in step {self.done}"

    def _insist(self, work: Callable[[], Result], between: Callable[[], object] = lambda: None) -> Result:
        for left in reversed(range(self._tries)):
            try:
                return work()
            except StoreError as error:
                if not self._is_declared(error):
                    raise AssertionError(repr(error)) from error
                self.told.append(str(error))
                if not left:
                    raise
                between()
        raise AssertionError

    def _is_declared(self, error: StoreError) -> bool:
        if isinstance(error, IndexFaultError):
            return self._reading or not error.damaged
        return isinstance(error, StorageFaultError)


def _run(folder: Path, fault: Fault | None = None, *pragmas: str) -> tuple[int, list[str], list[str]]:
    """Steps done, faults told, and the names of the calls that were seen."""
    seen, path = folder.with_suffix(".calls"), folder / NAME
    command = ["strace", "-f", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(seen)]
    for name in (path, f"{path}-journal"):
        command += ["-P", str(name)]
    words = []
    if fault is not None:
        command += ["-e", fault.option]
        words = ["stays"] * fault.stays + ["reading"] * (fault.call == "pread64")
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.crashes.index_faults", str(path), *words, *pragmas],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    steps, told = json.loads(done.stdout)
    return steps, told, [found[1] for line in seen.read_text().splitlines() if (found := _CALL.match(line))]


@cache
def faults() -> tuple[Fault, ...]:
    """All faults, in an order in which a few have something of everything."""
    with tempfile.TemporaryDirectory(prefix="netdump-index-", dir=MEMORY) as name:
        folder = Path(name) / "index"
        folder.mkdir()
        steps, told, calls = _run(folder)
    assert (steps, told) == (len(LIFE), [])
    found = [
        Fault(call, number, error, stays)
        for call, count in sorted(Counter(calls).items())
        for number in range(1, count + 1)
        for error in (("EIO",) if call == "pread64" else ("EIO", "ENOSPC"))
        for stays in (False, True)
    ]
    return tuple(Random(1).sample(found, len(found)))


def look(case: int, tally: Tally) -> None:
    """One fault."""
    fault = faults()[case]
    try:
        look_at(fault, tally)
    except Exception as error:
        raise AssertionError(f"{fault.option}: {error}") from error


def look_at(fault: Fault, tally: Tally, *pragmas: str) -> None:
    """Live with it, and look what the next process finds.

    pragmas: settings of SQLite that come after ours, for a test that a careless one is found out.
    """
    with tempfile.TemporaryDirectory(prefix="netdump-index-", dir=MEMORY) as name:
        folder = Path(name) / "index"
        folder.mkdir()
        done, told, _ = _run(folder, fault, *pragmas)
        with Index.open(folder / NAME) as index:
            index.check()
            rows = rows_of(index)
            assert rows in expected()[done : done + 2], f"{len(rows)} rows after {done} steps: lost, or there by half"
            for step in LIFE[done:]:
                step(index)
            assert rows_of(index) == expected()[-1]
        assert not list(folder.glob("*.damaged*"))
    tally.count(f"faults of {fault.call}")
    tally.count("of them told", bool(told))


def missing() -> str | None:
    """Without strace nothing can be made to fail."""
    return None if shutil.which("strace") else "needs strace"


if __name__ == "__main__":
    settings: Any = index_module
    settings._PRAGMAS = (*settings._PRAGMAS, *(word for word in sys.argv[2:] if "=" in word))
    life = _Life(Path(sys.argv[1]), stays="stays" in sys.argv, reading="reading" in sys.argv)
    life.live()
    print(json.dumps([life.done, life.told]))
