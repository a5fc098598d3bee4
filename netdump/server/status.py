"""What a collector says of itself once a minute, in DIR/serve.json, for `netdump status` and for who asks its ports.

Owns the file. What is wrong with a part is that part's to say (health.py). A collector that is killed leaves the file
behind, so whoever reads it looks whether anybody holds the folder's lock as well.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netdump.errors import DamagedError, NotACollectorError, StorageFaultError
from netdump.index.catalog import STORE_NAME
from netdump.index.place import is_locked
from netdump.index.rebuild import SERVE_LOCK_NAME, SERVE_STATUS_NAME
from netdump.index.record import TIME_MAX, time_text
from netdump.namedtuple import NamedTuple
from netdump.pki import durable
from netdump.store.durable import storage_faults
from netdump.store.findings import DamageFoundError
from netdump.store.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from netdump.store.sealed import Members

FORMAT: Final = "netdump-status/1"
BYTES_MAX: Final = 1 << 20
FACT_CHARS_MAX: Final = 1024
CLOSING_S: Final = 1.0  # for a word that is being written when the collector ends
SILENT_S: Final = 180  # after which a collector that says nothing new is in trouble; it speaks once a minute


class Trouble(NamedTuple):
    """What somebody should see to. topic: one of TOPICS. fact: what is wrong, and what to do."""

    topic: str
    fact: str


TOPICS: Final = ("running", "clock", "certificate", "upkeep", "space", "store", "index", "damage", "scrub")
"""All that there can be trouble with."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a collector says. Times are seconds since 1970.

    dumps: how many there are of each state; stored_bytes: what they take up; both None while the index does not answer.
    free_bytes, total_bytes: of the store's file system; None if it cannot be measured. events: how many of each name
    were logged since the start.
    """

    pid: int
    version: str
    ingest: str
    api: str
    started: int
    written: int
    troubles: tuple[Trouble, ...]
    dumps: Mapping[str, int] | None
    stored_bytes: int | None
    free_bytes: int | None
    total_bytes: int | None
    events: Mapping[str, int]

    def pack(self) -> bytes:
        """The sealed file."""
        return seal(
            {
                "format": FORMAT,
                "pid": self.pid,
                "version": self.version,
                "ingest": self.ingest,
                "api": self.api,
                "started": self.started,
                "written": self.written,
                "troubles": [{"topic": topic, "fact": fact[:FACT_CHARS_MAX]} for topic, fact in self.troubles],
                "dumps": None if self.dumps is None else dict(self.dumps),
                "stored_bytes": self.stored_bytes,
                "free_bytes": self.free_bytes,
                "total_bytes": self.total_bytes,
                "events": dict(self.events),
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> Status:
        """Read it back. Raises DamageFoundError: the disk, or a collector of another version."""
        members = unseal(data, FORMAT, SERVE_STATUS_NAME)
        return cls(
            pid=members.number("pid"),
            version=members.text("version"),
            ingest=members.text("ingest"),
            api=members.text("api"),
            started=members.number("started"),
            written=members.number("written"),
            troubles=tuple(
                Trouble(each.text("topic"), each.text("fact", FACT_CHARS_MAX)) for each in members.children("troubles")
            ),
            dumps=None if members.is_null("dumps") else _counts(members.child("dumps")),
            stored_bytes=members.optional_number("stored_bytes"),
            free_bytes=members.optional_number("free_bytes"),
            total_bytes=members.optional_number("total_bytes"),
            events=_counts(members.child("events")),
        )


def _counts(members: Members) -> dict[str, int]:
    return {name: members.number(name) for name in members.names()}


class StatusFile:
    """The file of one collector, which is there until `close`. Any thread may write."""

    def __init__(self, directory: Path) -> None:
        self._path: Final = directory / SERVE_STATUS_NAME
        self._guard: Final = threading.Lock()
        self._is_closed = False

    def write(self, status: Status) -> None:
        """Say this from now on: whole or not at all. Nothing happens once it is closed. Raises StorageFaultError."""
        draft = self._path.with_suffix(".partial")
        with self._guard:
            if self._is_closed:
                return
            try:
                draft.unlink(missing_ok=True)
                descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(status.pack())
                draft.rename(self._path)
            except OSError as error:
                raise StorageFaultError(f"{self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Say nothing any more. A disk that hangs while something is said is not waited for: hosts are to be told."""
        self._is_closed = True
        if not self._guard.acquire(timeout=CLOSING_S):
            return
        try:
            for path in (self._path, self._path.with_suffix(".partial")):
                with suppress(OSError):  # what stays is older with every minute, and nobody holds the lock
                    path.unlink(missing_ok=True)
        finally:
            self._guard.release()


def read(directory: Path) -> Status | None:
    """What the collector of a folder has said last; None: nothing since its last orderly end.

    Raises DamagedError, StorageFaultError, PkiError (not allowed).
    """
    path = directory / SERVE_STATUS_NAME
    try:
        return Status.unpack(durable.read(path, BYTES_MAX))
    except FileNotFoundError:
        return None
    except DamageFoundError as error:
        raise DamagedError(
            f"{path} is not what this netdump writes ({error.finding}): its disk fails, or a collector of another "
            "version runs there; restart the collector, at any time"
        ) from error


class Report(NamedTuple):
    """How a collector is. status: None unless it runs, and has said something."""

    status: Status | None
    troubles: tuple[Trouble, ...]


def inspect(directory: Path, now: int) -> Report:
    """Find out how the collector of a folder is. now: seconds since 1970.

    Raises NotACollectorError, DamagedError, StorageFaultError, PkiError (not allowed).
    """
    with storage_faults(f"looking for the store in {directory}"):
        if not (directory / STORE_NAME).is_dir():
            raise NotACollectorError(
                f"{directory} is not a collector's folder (no {STORE_NAME}/): make one with `netdump init`"
            )
    held = is_running(directory)
    try:
        status = read(directory)
    except DamagedError:
        if held:
            raise
        status = None  # as a machine that lost power may leave it
    if held and status is not None and abs(now - status.written) <= SILENT_S:
        return Report(status, status.troubles)
    if held and status is not None:
        fact = (
            f"it has said nothing since {time_text(min(status.written, TIME_MAX))}: its disk is full or hangs, or it "
            "does; see its log"
        )
        return Report(status, (Trouble("running", fact), *status.troubles))
    if held:
        fact = "it starts, or its index is made anew: look again soon; else its disk is full or hangs, see its log"
        return Report(None, (Trouble("running", fact),))
    ended = "" if status is None else f" (process {status.pid} was killed, or its machine lost power)"
    fact = (
        f"no collector runs on {directory}{ended}, and who crashes now has nowhere to send to: "
        f"`systemctl start netdump-collector`, or `netdump serve {directory}`"
    )
    return Report(None, (Trouble("running", fact),))


def is_running(directory: Path) -> bool:
    """Whether a process holds the folder, to serve it or to make its index anew.

    Shares the lock for a moment to find out; a collector that starts in that very moment takes the folder for taken.
    Raises StorageFaultError.
    """
    with storage_faults(f"looking at the lock of {directory}"):
        return is_locked(directory / SERVE_LOCK_NAME)
