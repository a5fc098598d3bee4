"""How a collector is: its troubles and its numbers, asked of the parts that know.

Owns which parts are asked, and what is said where one has no sentence of its own.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netdump import __version__
from netdump.errors import StorageFaultError, StoreError
from netdump.index.record import State
from netdump.server.status import Status, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netdump.index.index import Share
    from netdump.server.diskfailures import DiskFailures
    from netdump.server.owncertificate import CertificateWatch
    from netdump.server.recorder import Recorder
    from netdump.server.scrub import Scrubber
    from netdump.server.senders import Senders
    from netdump.server.space import Measure, SpaceWatch
    from netdump.server.tally import Tally
    from netdump.server.upkeep import Upkeep
    from netdump.server.views import Views

HEADINGS: Final[Mapping[str, str]] = {
    "clock": "THE CLOCK IS WRONG",
    "certificate": "A CERTIFICATE ENDS",
    "upkeep": "NOT LOOKED AFTER",
    "space": "TOO LITTLE ROOM",
    "store": "THE DISK FAILS",
    "index": "NO INDEX",
    "damage": "DAMAGED DUMPS",
    "scrub": "THE SCRUB IS LATE",
}
"""What stands before a trouble where there is one line for all of them, by topic."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Who is asked."""

    senders: Senders
    certificate: CertificateWatch
    upkeep: Upkeep
    space: SpaceWatch
    views: Views
    disk_failures: DiskFailures
    recorder: Recorder
    scrubber: Scrubber
    tally: Tally


class Health:
    """Of one collector. ingest, api: where it listens. clock: seconds since 1970."""

    def __init__(self, parts: Parts, ingest: str, api: str, clock: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._ingest = ingest
        self._api = api
        self._clock = clock
        self._started = max(0, int(clock()))
        self._seen: tuple[Trouble, ...] = ()  # at the last look, of those that take one
        self._is_short = False

    @property
    def first(self) -> Status:
        """What is known before there was a look."""
        return self._status(None, None)

    def look(self) -> Status:
        """Ask all. Blocks on the disk and on the index. Notes when room for new dumps is too little, and is enough."""
        parts = self._parts
        seen: list[Trouble] = []
        dumps = _census(parts.recorder, seen)
        room = _room(parts.space, parts.views, seen)
        if (failure := parts.disk_failures.look()) is not None:
            seen.append(Trouble("store", f"hosts are told to come back with their dumps: {failure}"))
        if parts.scrubber.late:
            seen.append(
                Trouble("scrub", "more is stored than rate_bytes lets be read in pass_days: see [scrub] in config.toml")
            )
        self._seen = tuple(seen)
        self._tell_of_room()
        return self._status(dumps, room)

    def _tell_of_room(self) -> None:
        """Who is told late that a collector takes no new dumps is told by a host."""
        short = next((fact for topic, fact in self._seen if topic == "space"), None)
        if short is not None and not self._is_short:
            self._parts.tally("space-low", reason=short)
        elif short is None and self._is_short:
            self._parts.tally("space-enough")
        self._is_short = short is not None

    def _status(self, dumps: Mapping[State, Share] | None, room: Measure | None) -> Status:
        return Status(
            pid=os.getpid(),
            version=__version__,
            ingest=self._ingest,
            api=self._api,
            started=self._started,
            written=max(0, int(self._clock())),
            troubles=self.troubles,
            dumps=None if dumps is None else {str(state): share.dumps for state, share in dumps.items()},
            stored_bytes=None if dumps is None else sum(share.stored_bytes for share in dumps.values()),
            free_bytes=None if room is None else room.free_bytes,
            total_bytes=None if room is None else room.total_bytes,
            events=self._parts.tally.counts(),
        )

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What is wrong now, and what was at the last look."""
        parts = self._parts
        now = (
            ("clock", parts.senders.doubt),
            ("certificate", parts.certificate.ending),
            ("upkeep", parts.upkeep.failing),
        )
        return (*(Trouble(topic, fact) for topic, fact in now if fact is not None), *self._seen)

    @property
    def headlines(self) -> list[str]:
        """The same, each in a line that catches the eye."""
        return [f"{HEADINGS[topic]}: {fact}" for topic, fact in self.troubles]


def _census(recorder: Recorder, seen: list[Trouble]) -> dict[State, Share] | None:
    try:
        dumps = recorder.census()
    except StoreError as error:
        seen.append(Trouble("index", f"dumps are received, but cannot be listed: {error}"))
        return None
    if damaged := dumps[State.DAMAGED].dumps:
        what = "one dump is damaged" if damaged == 1 else f"{damaged:,} dumps are damaged"
        seen.append(
            Trouble(
                "damage", f"{what}: see `netdump list --state damaged`, check the disk, delete what cannot be mended"
            )
        )
    return dumps


def _room(space: SpaceWatch, views: Views, seen: list[Trouble]) -> Measure | None:
    try:
        # On a disk that views have filled the next dump gets room: they are given up for it.
        if (shortage := space.shortage(views.spare_bytes)) is not None:
            seen.append(Trouble("space", shortage))
        return space.measure()
    except StorageFaultError as error:
        seen.append(Trouble("space", str(error)))
        return None
