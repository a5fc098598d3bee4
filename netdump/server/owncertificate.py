"""The collector's own certificate while it runs: taken as soon as there is another, and told of before it ends.

Owns when it is looked at and what is said of it. What to do about a certificate that has ended is its operator's
business; that hosts get in all the same is for senders.py.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from netdump.pki import api_server_context, authority_certificate, collector_certificate, ingest_server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from netdump.pki import OwnCertificate
    from netdump.server.audit import Audit

SAY_S: Final = 86_400  # from one `certificate-ending` to the next
NOTICE: Final = timedelta(days=90)  # that the collector's own certificate is spoken of before its end
AUTHORITY_NOTICE: Final = timedelta(days=365)  # the same of the authority's: the fleet must be enrolled anew by then

CONTEXTS: Final[Mapping[str, Callable[[Path], ssl.SSLContext]]] = {
    "ingest": ingest_server_context,
    "api": api_server_context,
}


class CertificateWatch:
    """Watches the certificates in a collector's folder. `contexts` may be called before `renew`, both on one loop.

    clock: seconds since 1970. steady: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        directory: Path,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._audit = audit
        self._clock = clock
        self._steady = steady
        self._shown = ""  # PEM of what the contexts have
        self._ending: str | None = None
        self._said_at = 0.0

    @property
    def ending(self) -> str | None:
        """Which certificate comes to its end, and what to do, as of the last look; None: none does."""
        return self._ending

    def contexts(self) -> dict[str, ssl.SSLContext]:
        """Make the contexts of "ingest" and "api" from what is in the folder now. Raises PkiError."""
        return self._made(collector_certificate(self._directory))

    def _made(self, own: OwnCertificate) -> dict[str, ssl.SSLContext]:
        """own: as it was before they are made: what comes in between is seen as new at the next look."""
        contexts = {name: make(self._directory) for name, make in CONTEXTS.items()}
        self._shown = own.pem
        return contexts

    def look(self) -> dict[str, ssl.SSLContext] | None:
        """See what there is; note what is new, or comes to its end. New contexts if there is another certificate.

        Blocks on the disk. Raises PkiError, StorageFaultError: what was loaded is still shown, but receipts are signed
        with what is there.
        """
        authority, own = authority_certificate(self._directory), collector_certificate(self._directory)
        self._tell(_ending(authority, own, datetime.fromtimestamp(self._clock(), UTC), self._directory))
        shown, contexts = self._shown, self._made(own)
        if own.pem == shown:
            return None
        self._audit("certificate-taken", names=", ".join(own.names), ends=f"{own.validity.last:%Y-%m-%d}")
        return contexts

    async def renew(self, show: Callable[[dict[str, ssl.SSLContext]], None]) -> None:
        """Look once. show is given new contexts, on the loop. Raises as look does."""
        contexts = await asyncio.to_thread(self.look)
        if contexts is not None:
            show(contexts)

    def _tell(self, ending: str | None) -> None:
        before, self._ending = self._ending, ending
        if ending is not None and (ending != before or self._steady() >= self._said_at + SAY_S):
            self._said_at = self._steady()
            self._audit("certificate-ending", reason=ending)


def _ending(authority: OwnCertificate, own: OwnCertificate, now: datetime, directory: Path) -> str | None:
    """What is to be said of their dates at this time. None: nothing yet."""
    if authority.validity.last - now < AUTHORITY_NOTICE:
        return (
            f"{_end('authority', authority, now)}, and with it all certificates: make a new collector in another "
            "folder with `netdump init` and enroll hosts and people there"
        )
    if own.validity.last - now < NOTICE:
        return f"{_end('certificate', own, now)}: run `netdump renew --collector {directory.absolute()}`"
    return None


def _end(what: str, certificate: OwnCertificate, now: datetime) -> str:
    if now > certificate.validity.last:
        return f"the collector's {what} ended on {certificate.validity.last:%Y-%m-%d}, unless the clock is wrong"
    return f"the collector's {what} ends on {certificate.validity.last:%Y-%m-%d}"
