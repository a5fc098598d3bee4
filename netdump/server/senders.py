"""Which hosts may send, and by which clock that is judged.

A machine that has crashed must not lose its memory to a collector's empty battery. Owns what speaks against the clock
of this machine, and saying so for as long as it lasts. Which dates are then left aside is decided in pki
(Authority.admit_sender); docs/adr/0008-wrong-clock.md has the reasons.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import NetdumpError
from netdump.index.catalog import STORE_NAME
from netdump.index.place import NAME as INDEX_NAME
from netdump.pki.record import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from netdump.pki import Authority, Identity
    from netdump.server.audit import Audit

SAY_S: Final = 3600  # from one `clock-wrong` to the next
LATEST: Final = 253_402_300_799.0  # that `timestamp` can say: the end of the year 9999
ANY_KEY: Final = "0" * 64  # the fingerprint of none
SLACK_S: Final = 3600  # that a clock may be put back, by NTP or by hand, without a word
REMEDY: Final = (
    "set it (chrony, systemd-timesyncd, date -s). Until then dumps are taken in, with wrong times; enroll nobody"
)


class Senders:
    """Lets hosts in, and watches the clock by which their certificates are judged. Any thread may ask.

    written: when the folder was last written to, as far as it shows, seconds since 1970 (`last_written`). clock: the
    same of now. steady: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        authority: Authority,
        audit: Audit,
        *,
        written: float = 0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._audit = audit
        self._clock = clock
        self._steady = steady
        self._known = written - SLACK_S  # it cannot be earlier
        self._evidence = (
            f"the collector's folder was last written to at {timestamp(int(written))}, unless the clock was ahead then "
            f"(if so, `touch` it, `{STORE_NAME}` and `{INDEX_NAME}` in it, and restart the collector)"
        )
        self._doubt: str | None = None
        self._said_at = 0.0
        self._is_unchecked = False

    @property
    def doubt(self) -> str | None:
        """Why the clock cannot be right, and what to do, as of the last look; None: nothing speaks against it."""
        return self._doubt

    def admit(self, certificate: bytes | None) -> Identity:
        """Say who a sender is, from the certificate that TLS has verified (DER). Raises as Authority.admit does."""
        sender = self._authority.admit_sender(certificate, self._clock())
        if sender.since > self._known and sender.since > self._clock():
            self._known = sender.since
            self._evidence = (
                f"the certificate of {sender.identity.name}, made here, is good from {timestamp(int(sender.since))}, "
                "unless the clock was ahead then (if so, enroll that host again, and restart the collector)"
            )
            self.look()
        return sender.identity

    def look(self) -> None:
        """See whether the clock can be right; note what is new, or has been so for long."""
        before, self._doubt = self._doubt, self._found()
        if self._doubt is not None:
            if before is None or self._steady() >= self._said_at + SAY_S:
                self._said_at = self._steady()
                self._audit("clock-wrong", reason=self._doubt)
        elif before is not None:
            self._audit("clock-right")

    def look_at_revocations(self) -> None:
        """Find out whether it can be told who is revoked: else nobody is let in. Raises PkiError, StorageFaultError."""
        self._authority.is_revoked(ANY_KEY)

    def _found(self) -> str | None:
        now = self._clock()
        fault = self._certificate_fault(now)
        if fault is None and now < self._known:
            fault = self._evidence
        return None if fault is None else f"this clock says {timestamp(int(now))}, and {fault}: {REMEDY}"

    def _certificate_fault(self, now: float) -> str | None:
        """What the collector's own certificates say against the clock; noted once if they cannot be read."""
        try:
            fault = self._authority.clock_fault(now)
        except NetdumpError as error:
            if not self._is_unchecked:
                self._audit("clock-unchecked", reason=str(error))
            self._is_unchecked = True
            return None
        self._is_unchecked = False
        return fault


def last_written(paths: Iterable[Path]) -> float:
    """The latest time at which one of these was written to, seconds since 1970 to the year 9999; 0 if none tells."""
    latest = 0.0
    for path in paths:
        with suppress(OSError):
            latest = max(latest, path.stat().st_mtime)
    return min(latest, LATEST)
