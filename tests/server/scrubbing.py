"""A scrubber with all it needs, and two dumps to look at."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from netdump.errors import BusyError
from netdump.server.config import Scrub
from netdump.server.scrub import Scrubber
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import deliver
from tests.server.rig import Events

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.store.files import Files

OLD, NEW = SampleDump(1), SampleDump(2)
CREATED = OLD.origin.created
DAYS = 30


class Told:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.bad: dict[str, str] = {}
        self.times: dict[str, int] = {}
        self.verdicts: set[str] | None = set()
        self.is_locked = False
        self.settled = 0
        self.is_slow = False
        self.told = list[str]()
        self.was_told = threading.Event()
        self.pending: Future[None] = Future()
        self.refusal: Exception = BusyError("the index is locked")

    def found_damaged(self) -> set[str]:
        if self.verdicts is None:
            raise BusyError("the index is locked")
        return set(self.verdicts)

    def damaged(self, dump_id: str, remark: str) -> None:
        self.bad[dump_id] = remark

    def sound(self, dump_id: str) -> Future[None]:
        assert self.verdicts is not None
        done: Future[None] = Future()
        if self.is_locked:
            done.set_exception(self.refusal)
        else:
            self.verdicts.discard(dump_id)
            done.set_result(None)
        return done

    def checked(self, checks: dict[str, int]) -> Future[None]:
        self.times.update(checks)
        self.told += checks
        self.pending = Future()
        if not self.is_slow:
            self.pending.set_result(None)
        self.was_told.set()
        return self.pending

    def untold(self, checks: dict[str, int]) -> dict[str, int]:
        if self.verdicts is None:
            raise BusyError("the index is locked")
        return {dump_id: when for dump_id, when in checks.items() if self.times.get(dump_id) != when}

    def settle(self) -> None:
        self.settled += 1


class Desktop:
    """A scrubber with all it needs, its thread not begun."""

    def __init__(self, directory: Path, now: float, files: Files | None = None, **settings: Any) -> None:
        self.told, self.events, self.views = Told(), Events(), list[str]()
        self.now = now
        self.store = Store(directory / "dumps")
        self.scrubber = Scrubber(
            directory,
            files or LocalFiles(directory / "dumps"),
            Scrub(**settings),
            recorder=self.told,  # type: ignore[arg-type]
            restore=self.views.append,
            audit=self.events,
            clock=lambda: self.now,
        )
        self.scrubber._set_rate = lambda ids: None  # type: ignore[method-assign]
        self.scrubber._rate = 1 << 40


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def segment_of(directory: Path, sample: SampleDump, number: int = 0) -> Path:
    return sorted((directory / "dumps" / sample.origin.id / "segments").iterdir())[number]


def fill(tmp_path: Path) -> Path:
    """A collector's folder with both."""
    (tmp_path / "dumps").mkdir()
    for sample in (OLD, NEW):
        deliver(Store(tmp_path / "dumps"), sample)
    return tmp_path
