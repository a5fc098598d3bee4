"""All connections of hosts: who may come in, what is logged of them, and how they end when the collector stops.

Owns the checks that TLS cannot do, and the tasks that attend to dumps. A single connection is hostconnection.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from netdump import wire
from netdump.errors import CertificateError, NetdumpError, RemoteProtocolError, RevokedError
from netdump.pki import Identity, Role
from netdump.server.audit import Rationed
from netdump.server.bufferpool import BufferPool
from netdump.server.headlines import Headlines
from netdump.server.hostconnection import LINGER_S, HostConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from netdump.server.admission import HostGate
    from netdump.server.audit import Audit
    from netdump.server.config import Ingest
    from netdump.server.headlines import Bearer
    from netdump.server.listener import Visitor
    from netdump.server.senders import Senders

NOBODY: Final = Identity(Role.HOST, name="", fingerprint="")  # of a connection that is failed before it says a word


class IngestService:
    """All connections of hosts."""

    def __init__(
        self,
        senders: Senders,
        settings: Ingest,
        hosts: HostGate,
        attend: Callable[[HostConnection, wire.Hello], Coroutine[None, None, None]],
        audit: Audit,
        *,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """attend: sees a connection through from HELLO on. stop: called before the end of those is waited for."""
        self._senders = senders
        self._settings = settings
        self._hosts = hosts
        self._attend = attend
        self._audit = audit
        self._stop = stop
        self._refused = Rationed(audit)
        self._buffers = BufferPool()
        self._headlines = Headlines(self._gave_way)
        self._connections: set[HostConnection] = set()
        self._tasks: dict[HostConnection, asyncio.Task[None]] = {}
        self._all_lost = asyncio.Event()
        self._all_lost.set()

    def serve(self, visitor: Visitor) -> None:
        """Receive a peer whose handshake is done: check what TLS cannot check, then listen to it [W-02, W-04]."""
        if visitor.tls.selected_alpn_protocol() != wire.ALPN:
            self._cut(visitor, "no common ALPN protocol")
            return
        try:
            identity = self._senders.admit(visitor.tls.getpeercert(binary_form=True))
            if identity.role is not Role.HOST:
                raise CertificateError(
                    f"a certificate of role {identity.role} cannot send dumps: enroll with a host's token"
                )
        except NetdumpError as error:
            self._refuse(visitor, error)
            return
        excess = self._hosts.enter(identity.name, asyncio.get_running_loop().time())
        if excess is not None:
            self._cut(visitor, f"{identity.name}: {excess}")
            return
        visitor.vouch()
        self._audit("host-connected", host=identity.name, peer=visitor.address)
        self._start(visitor, identity)

    def _cut(self, visitor: Visitor, reason: str) -> None:
        self._refused("host-refused", peer=visitor.address, reason=reason)
        visitor.leave()
        visitor.transport.abort()

    def _start(self, visitor: Visitor, identity: Identity) -> HostConnection:
        connection = HostConnection(
            visitor,
            identity,
            self._settings,
            self._buffers,
            self._headlines,
            attend=self._begin,
            on_breach=self._broken,
            on_error=self._complained,
            on_lost=self._lost,
        )
        self._connections.add(connection)
        self._all_lost.clear()
        connection.start()
        return connection

    def _refuse(self, visitor: Visitor, error: NetdumpError) -> None:
        """Tell a peer that it may not come in; when it cannot be found out whether it may, that it may come back."""
        self._refused("host-refused", peer=visitor.address, reason=str(error))
        connection = self._start(visitor, NOBODY)
        if isinstance(error, (CertificateError, RevokedError)):
            connection.fail(wire.ErrorCode.NOT_ALLOWED, str(error))
        else:
            connection.fail(wire.ErrorCode.INTERNAL, "the collector cannot check certificates just now")

    async def close(self) -> None:
        """Tell all hosts that the collector stops, wait until what they sent is dealt with, and part."""
        for connection in tuple(self._connections):
            connection.fail(wire.ErrorCode.SHUTTING_DOWN, "the collector stops; come back")
        self._stop()
        # Also of connections that are gone already: what they brought may still be on its way to the disk.
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._all_lost.wait()
        for connection in tuple(self._connections):
            connection.abort()

    def _begin(self, connection: HostConnection, hello: wire.Hello) -> asyncio.Task[None]:
        task = asyncio.create_task(self._attend(connection, hello))
        self._tasks[connection] = task
        task.add_done_callback(lambda _: self._tasks.pop(connection))
        return task

    def _gave_way(self, bearer: Bearer, reason: str) -> None:
        self._audit("headline-gave-way", host=bearer.host, peer=bearer.peer, reason=reason)

    def _broken(self, connection: HostConnection, error: RemoteProtocolError) -> None:
        reason = f"{error.reason}: {error}"
        self._audit("host-dropped", host=connection.host, peer=connection.peer, reason=reason)

    def _complained(self, connection: HostConnection, error: wire.Error) -> None:
        reason = f"{error.code.slug}: {error.text}"
        self._audit("host-failed", host=connection.host, peer=connection.peer, reason=reason)

    def _lost(self, connection: HostConnection) -> None:
        self._connections.discard(connection)
        if connection in self._tasks:
            # It counts until then: else a host that does not wait for answers would have any number of threads at work.
            self._tasks[connection].add_done_callback(lambda _: self._hosts.leave(connection.host))
        elif connection.identity is not NOBODY:
            self._hosts.leave(connection.host)
        if not self._connections:
            self._all_lost.set()
