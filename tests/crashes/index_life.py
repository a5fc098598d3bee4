"""The index: power cuts while SQLite works on it, from its making on.

The steps of LIFE are carried out by a process of its own under strace(1), which writes down every system call that
changes a file, with its bytes. They are done once more on a disk in memory, which knows what was synced; what a power
cut may leave of that is written out, and opened as the next collector would. SQLite promises that a commit that has
returned is there, and that none is there by half: no index is damaged by a power cut, so none has to be made anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from netdump.index import index as index_module
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.reading import LIST_LIMIT_MAX, Query
from netdump.index.record import DumpRecord, State
from netdump.testing.memory_files import MemoryFiles
from tests.crashes.states import fingerprint, plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.testing.memory_files import MemoryFile
    from tests.campaign.frame import Tally

CALLS: Final = "openat,pwrite64,write,lseek,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,close,newfstatat"
BY_CHANCE: Final = 8
MEMORY: Final = "/dev/shm"  # where nothing waits for a disk
_CALL: Final = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def _record(number: int, **values: object) -> DumpRecord:
    record = DumpRecord(
        f"{number:032x}", f"web{number}", State.ARRIVING, 1 << 30, 4096, 31, 1_700_000_000, 1_700_000_000
    )
    return replace(record, order_ns=number, panic=f"panic {number} " + "x" * 200, **values)  # type: ignore[arg-type]


LIFE: Final[tuple[Callable[[Index], None], ...]] = (
    lambda index: index.put(_record(1)),
    lambda index: index.advance(f"{1:032x}", durable_bytes=4096, stored_bytes=100, chunks=1, updated=1_700_000_001),
    lambda index: index.add([_record(number) for number in range(2, 40)]),
    lambda index: index.set_state(f"{7:032x}", State.DAMAGED, "a segment has rotted"),
    lambda index: index.put(_record(3, state=State.COMPLETE, root="ab" * 32, totals={"data": 1}, vmcore=True)),
    lambda index: index.set_checked({f"{3:032x}": 1_700_000_500}),
    lambda index: index.remove(f"{1:032x}"),
    lambda index: index.renew(_record(7, state=State.COMPLETE)),
    lambda index: index.remove(f"{9:032x}"),
    lambda index: index.add([_record(number) for number in range(50, 60)]),
)  # fmt: skip


class Moment(NamedTuple):
    """The disk behind one system call. done: how many steps had returned."""

    disk: MemoryFiles
    done: int


def live(folder: Path) -> None:
    """All steps; after each one the process looks for a file that is not there, which strace sees."""
    with Index.open(folder / NAME) as index:
        for number, step in enumerate(LIFE):
            step(index)
            (folder / f"done-{number}").exists()


@cache
def expected() -> tuple[tuple[DumpRecord, ...], ...]:
    """The rows after so many steps."""
    with (
        tempfile.TemporaryDirectory(prefix="netdump-index-", dir=MEMORY) as name,
        Index.open(Path(name) / NAME) as index,
    ):
        found = [rows_of(index)]
        for step in LIFE:
            step(index)
            found.append(rows_of(index))
    return tuple(found)


def rows_of(index: Index) -> tuple[DumpRecord, ...]:
    return tuple(index.list(Query(limit=LIST_LIMIT_MAX)))


@cache
def calls(*pragmas: str) -> tuple[tuple[str, str, int], ...]:
    """What strace saw: name, arguments, result of each call; names in the folder begin with "/".

    pragmas: settings of SQLite that come after ours, for a test that a careless one is found out.
    """
    with tempfile.TemporaryDirectory(prefix="netdump-index-", dir=MEMORY) as name:
        folder, told = Path(name) / "index", Path(name) / "calls"
        folder.mkdir()
        command = ["strace", "-f", "-xx", "-s", str(1 << 20), "-e", f"trace={CALLS}", "-o", str(told)]
        done = subprocess.run(
            [*command, sys.executable, "-m", "tests.crashes.index_life", str(folder), *pragmas],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found = [_CALL.match(line) for line in told.read_text().splitlines()]
    hidden = "".join(f"\\x{byte:02x}" for byte in os.fsencode(folder))
    return tuple((each[1], each[2].replace(hidden, ""), int(each[3])) for each in found if each)


class _Replay:
    """Does recorded calls once more in memory."""

    def __init__(self) -> None:
        self.disk = MemoryFiles()
        self.done = 0
        self._files: dict[int, MemoryFile] = {}
        self._folders: set[int] = set()
        self._places: dict[int, int] = {}

    def follow(self, call: str, arguments: str, result: int) -> bool:
        """Returns whether that changed the disk."""
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        name = texts[0].decode(errors="replace") if texts else ""
        first = arguments.partition(",")[0]
        descriptor = int(first) if first.isdigit() else -1
        if call == "newfstatat":
            self.done += name.startswith("/done-")
            return False
        if result < 0:
            return False
        if call == "openat":
            return self._open(name, arguments, result)
        if call in {"unlink", "unlinkat"} and name.startswith("/"):
            if self.disk.status(name[1:]) is None:
                return False
            self.disk.unlink(name[1:])
            return True
        if descriptor in self._folders:
            if call in {"fsync", "fdatasync"}:
                self.disk.sync_folder("")
                return True
            return False
        return descriptor in self._files and self._on_file(call, descriptor, arguments, texts, result)

    def _open(self, name: str, arguments: str, result: int) -> bool:
        self._files.pop(result, None)
        self._folders.discard(result)
        if name == "":
            self._folders.add(result)
        elif name.startswith("/index."):
            self._places[result] = 0
            made = self.disk.status(name[1:]) is None
            assert not made or "O_CREAT" in arguments, arguments
            self._files[result] = self.disk.create(name[1:]) if made else self.disk.open(name[1:])
            return made
        return False

    def _on_file(self, call: str, descriptor: int, arguments: str, texts: list[bytes], result: int) -> bool:
        file = self._files[descriptor]
        match call:
            case "pwrite64":
                file.write_at(int(arguments.rpartition(",")[2]), texts[0][:result])
            case "lseek":
                self._places[descriptor] = result
                return False
            case "write":
                file.write_at(self._places[descriptor], texts[0][:result])
                self._places[descriptor] += result
            case "ftruncate":
                file.resize(int(arguments.rpartition(",")[2]))
            case "fsync" | "fdatasync":
                file.sync()
            case "close":
                del self._files[descriptor]
                return False
        return True


def moments(*pragmas: str) -> Iterator[Moment]:
    """The disk behind each call that changed it."""
    replay = _Replay()
    for call in calls(*pragmas):
        if replay.follow(*call):
            yield Moment(replay.disk, replay.done)
    assert replay.done == len(LIFE)


@cache
def cases() -> tuple[int, ...]:
    """The numbers of all moments, in an order in which a few have something of everything."""
    number = sum(1 for _ in moments())
    return tuple(Random(1).sample(range(number), number))


def look(case: int, tally: Tally) -> None:
    """Cut power behind one call, and open what that may leave."""
    look_at(next(islice(moments(), case, None)), case, tally)


def look_at(moment: Moment, case: int, tally: Tally) -> None:
    """Open all that a power cut at that moment may leave."""
    tally.count("moments of a power cut")
    for luck in plans(moment.disk.unsynced(), Random(case), BY_CHANCE):
        state = moment.disk.after_power_cut(luck)
        known = fingerprint(state)
        if known not in tally.seen.get("different states", ()):
            tally.distinct("different states", known)
            _check(state, moment.done)


def _check(state: MemoryFiles, done: int) -> None:
    with tempfile.TemporaryDirectory(prefix="netdump-index-", dir=MEMORY) as name:
        folder = Path(name)
        for each in state.all_names():
            (folder / each).write_bytes(state.content(each))
        with Index.open(folder / NAME) as index:
            index.check()
            rows = rows_of(index)
            assert rows in expected()[done : done + 2], f"{len(rows)} rows after {done} steps: lost, or there by half"
            index.put(_record(99))
        with Index.open(folder / NAME) as index:
            assert index.get(f"{99:032x}") is not None


def missing() -> str | None:
    """Without strace nothing can be seen."""
    return None if shutil.which("strace") else "needs strace"


if __name__ == "__main__":
    settings: Any = index_module
    settings._PRAGMAS = (*settings._PRAGMAS, *sys.argv[2:])
    live(Path(sys.argv[1]))
