"""`netdump serve` that kills itself at a named point: python -m tests.crashes.failing_serve POINT serve DIR ...

A point is WHAT.DEED.MOMENT: around every operation that changes the store ("segment.sync.after"), every commit of the
index ("index.commit.before": what it commits is done) and every word to the host ("ack.send.after"). record:FILE kills
at none, and writes the names of all that are passed. Production code has no hooks for this: its seams are used, from
here.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.default import DefaultDialect

from netdump.__main__ import main
from netdump.server.hostconnection import HostConnection
from netdump.store import store
from netdump.store.files import LocalFiles
from netdump.testing.faulty_files import FaultyFiles, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = {"create", "write", "write_at", "resize", "sync", "sync_folder", "rename", "unlink", "make_folder", "close"}


class Points:
    """What happens at each point."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._record = Path(wanted.removeprefix("record:")) if wanted.startswith("record:") else None
        self._passed: set[str] = set()

    def pass_by(self, point: str) -> None:
        if point == self._wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._record is not None and point not in self._passed:
            self._passed.add(point)
            with self._record.open("a") as file:
                file.write(point + "\n")

    @contextmanager
    def around(self, deed: str) -> Iterator[None]:
        self.pass_by(f"{deed}.before")
        yield
        self.pass_by(f"{deed}.after")


class PointedFiles(FaultyFiles):
    """The store's files, with points."""

    def __init__(self, root: Path, points: Points) -> None:
        super().__init__(LocalFiles(root))
        self._points = points

    def do(self, operation: Operation, work: Callable[[], Any], half: Callable[[], object] | None = None) -> Any:
        self.operations.clear()
        if operation.kind not in CHANGES:
            return work()
        with self._points.around(f"{what(operation.name)}.{operation.kind}"):
            return work()


def what(name: str) -> str:
    """segments/000.seg.partial -> segment; manifest.json -> manifest; the folders by what is in them."""
    last = name.rpartition("/")[2].removesuffix(".partial")
    if last.endswith(".seg"):
        return "segment"
    if last in {"headline", "vmcore", "lock", "segments"} or last.endswith(".json"):
        return last.removesuffix(".json")
    return "dump" if last else "store"


def install(points: Points) -> None:
    """Put the points in."""
    patched: Any = store
    patched.LocalFiles = lambda root: PointedFiles(root, points)
    for method, word in {"acknowledge": "ack", "conclude": "last-word", "begin": "resume"}.items():
        _wrap(HostConnection, method, points, f"{word}.send")
    watch_commits(points)


def watch_commits(points: Points) -> None:
    """Put points around COMMIT itself. The index is the only database there is."""
    _wrap(DefaultDialect, "do_commit", points, "index.commit")


def _wrap(kind: type, name: str, points: Points, deed: str) -> None:
    real = getattr(kind, name)

    def watched(self: Any, *arguments: Any) -> None:
        with points.around(deed):
            real(self, *arguments)

    setattr(kind, name, watched)


if __name__ == "__main__":
    install(Points(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    main()
