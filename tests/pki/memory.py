"""A TLS connection without sockets: two contexts joined by memory."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS_MAX = 20


class Pair:
    """A client and a server that have shaken hands, or an ssl.SSLError from whichever of them refused."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> None:
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self._to_client, self._to_server, server_hostname=name)
        self.server = server.wrap_bio(self._to_server, self._to_client, server_side=True)
        pending = [self.client.do_handshake, self.server.do_handshake]
        for _ in range(ROUNDS_MAX):
            pending = [step for step in pending if not self._done(step)]
            if not pending:
                break
        else:
            raise AssertionError("the handshake does not end")
        self._tell()

    def _tell(self) -> None:
        # TLS 1.3 ends for the client before the server has looked at its certificate; a byte shows that it has.
        self.server.write(b"!")
        assert self.client.read(1) == b"!"

    @staticmethod
    def _done(step: Callable[[], None]) -> bool:
        try:
            step()
        except ssl.SSLWantReadError:
            return False
        return True

    def shown_certificate(self) -> bytes | None:
        """What the client showed to the server (DER)."""
        return self.server.getpeercert(binary_form=True)
