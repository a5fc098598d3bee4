"""One TLS connection over a non-blocking socket.

TLS runs in memory (SSLObject over two MemoryBIOs), the socket is polled for both directions at once: sending never
keeps received bytes waiting and receiving never keeps sent ones, and every wait has a time limit. Knows no messages.
Says who is at fault when a connection cannot be made: nobody there (UnreachableError), somebody else (ImpostorError),
or the collector does not accept our certificate (RefusedError). A connection that ends by itself is an
UnreachableError too, except a clean end of stream, which sets `eof`.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from netdump.client.credentials import NAME_MISMATCH
from netdump.client.tcpinfo import DeliveryRate
from netdump.errors import ImpostorError, NetdumpError, RefusedError, RemoteProtocolError, UnreachableError
from netdump.wire import ALPN

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.client.address import Address
    from netdump.client.resolve import Endpoint, Resolver
    from netdump.wire import Buffer

RECEIVE_BYTES = 1 << 16  # what a collector sends is small
ENCRYPT_BYTES = 1 << 18  # plaintext encrypted in one go: bounds the ciphertext held, 16 records of TLS
RECORD_BYTES = 1 << 14  # plaintext in a record of TLS, at most
RECORDS_MAX = 1 << 24
"""Records that one connection may carry one way: 256 GiB if they are full.

After 2^24.5 records under one key AES-GCM falls short of its margin (RFC 8446 5.5), and neither OpenSSL nor Python
renews keys by itself. Whoever sends more makes a new connection.
"""

SMALL_SEGMENT_BYTES = 1220
"""Of TCP, what goes through every network that carries IPv6: 1280 bytes without the headers (RFC 8200 5).

Where a link on the way takes less than the others and nobody says so (RFC 2923 2.1), full segments vanish for ever.
"""

# Alerts (by OpenSSL's names of them) with which a collector says that it does not accept our certificate.
REFUSALS = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_DECRYPT_ERROR",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)


class Link:
    """An established connection whose peer has proved to be the collector. For one thread.

    address: whom it was dialled as. eof: the collector has ended the stream cleanly. sent_bytes: on the wire,
    TLS included. sent_records: of TLS, see RECORDS_MAX.
    """

    def __init__(
        self,
        address: Address,
        connection: socket.socket,
        context: ssl.SSLContext,
        blame: Callable[..., None] = lambda **_: None,
    ) -> None:
        """Take over a connected socket. handshake() comes next. blame: see Resolver.blame."""
        self.address = address
        self.blame = blame
        self.eof = False
        self.sent_bytes = 0
        self.sent_records = 0
        self._socket = connection
        self._socket.setblocking(False)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # No certificate names the root's dot. Bytes, because a str would load the tables of the idna codec.
        name = address.host.partition("%")[0].removesuffix(".").encode("ascii")
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._plain: deque[memoryview] = deque()
        self._plain_bytes = 0
        self._cipher = memoryview(b"")
        self._delivery_rate = DeliveryRate(connection)
        self._broken = ""  # why nothing can be sent any more
        self._buffer = bytearray(RECEIVE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def pending(self) -> int:
        """Bytes that were given to send and that the kernel has not taken yet."""
        return self._plain_bytes + len(self._cipher)

    def delivery_rate(self) -> float:
        """Bytes a second that the network was seen to take; 0.0 where the kernel does not tell."""
        return self._delivery_rate.read()

    def handshake(self, timeout: float) -> None:
        """Agree on TLS within timeout seconds.

        Raises ImpostorError, RefusedError, RemoteProtocolError, UnreachableError.
        """
        limit = time.monotonic() + timeout
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self._flush_alert()
                raise self._blame_handshake(error) from error
            self._wait_handshake(limit - time.monotonic(), timeout)
        self._push()  # our Finished
        if self._tls.selected_alpn_protocol() != ALPN:
            raise ImpostorError(
                f"{self.address} is a server of our authority but not a netdump collector: check the port"
            )

    def send(self, data: bytes, more: Buffer = b"") -> None:
        """Queue data, and more of it. exchange() sends them.

        more is not copied, but for what fills the first record, and must stay as it is while anything is pending.
        """
        fill = max(0, RECORD_BYTES - len(data))
        for part in (data + bytes(more[:fill]), memoryview(more)[fill:]):
            if part:
                self._plain.append(memoryview(part))
                self._plain_bytes += len(part)

    def exchange(self, timeout: float) -> bytes:
        """Send what the kernel takes and receive what has come.

        Waits up to timeout seconds until something has come, or the queue has emptied if there was one. Returns the
        bytes received, empty if none came in time or the stream ended. What the collector said before it broke the
        connection is still returned; only then comes the error. Raises RefusedError, UnreachableError.
        """
        queued = self.pending > 0
        self._push()
        if self._broken:
            received = self._receive()
            if not received:
                raise UnreachableError(f"{self.address}: connection lost while sending ({self._broken})")
            return received
        emptied = queued and not self.pending
        self._poll.modify(self._socket, (0 if self.eof else select.POLLIN) | (select.POLLOUT if self.pending else 0))
        ready = self._poll.poll(0 if emptied else max(0.0, timeout) * 1000)
        if not ready:
            return b""
        if ready[0][1] & ~select.POLLOUT:
            return self._receive()
        self._push()
        return b""

    def close(self, farewell: float = 0.0) -> None:
        """Say good-bye and close; may be called again. Never raises.

        farewell: seconds to see to it that the collector gets what is queued. What it still sends is read and dropped
        until then: closing with unread bytes makes the kernel reset the connection, and a reset overtakes what was
        sent before.
        """
        if self._socket.fileno() < 0:
            return
        limit = time.monotonic() + farewell
        with suppress(NetdumpError, OSError):  # the peer is gone, or does not answer our close_notify
            while self.pending and not self.eof and time.monotonic() < limit:
                self.exchange(limit - time.monotonic())
            self._tls.unwrap()
        with suppress(NetdumpError, OSError):
            self._flush_alert()
            self._socket.shutdown(socket.SHUT_WR)
            while not self.eof and time.monotonic() < limit:
                self.exchange(limit - time.monotonic())
        self._socket.close()

    def _push(self) -> None:
        """Encrypt and send until the kernel takes no more. If it never will again, drop the queue and remember why."""
        try:
            while self._next_cipher():
                count = self._socket.send(self._cipher)
                self.sent_bytes += count
                self._cipher = self._cipher[count:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken = _reason(error)
            self._plain.clear()
            self._plain_bytes = 0
            self._cipher = memoryview(b"")

    def _next_cipher(self) -> bool:
        """Make sure that there is ciphertext to send, if there is anything to send at all."""
        if not self._cipher:
            if self._plain:
                self._encrypt()
            self._cipher = memoryview(self._outgoing.read())
        return bool(self._cipher)

    def _encrypt(self) -> None:
        """Encrypt up to ENCRYPT_BYTES of the queue."""
        room = ENCRYPT_BYTES
        while self._plain and room:
            piece = self._plain[0][:room]
            self._tls.write(piece)
            self.sent_records += -(-len(piece) // RECORD_BYTES)
            room -= len(piece)
            self._plain_bytes -= len(piece)
            rest = self._plain[0][len(piece) :]
            if rest:
                self._plain[0] = rest
            else:
                self._plain.popleft()

    def _receive(self) -> bytes:
        """Take what the socket holds, once, and decrypt all of it."""
        try:
            count = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise UnreachableError(f"{self.address}: connection lost ({_reason(error)})") from error
        if count:
            self._incoming.write(memoryview(self._buffer)[:count])
        else:
            self._incoming.write_eof()
        return self._decrypt()

    def _decrypt(self) -> bytes:
        received = []
        try:
            while piece := self._tls.read(RECEIVE_BYTES):
                received.append(piece)
            self.eof = True  # an empty read is a close_notify
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.eof = True
        except ssl.SSLError as error:
            raise self._blame(error) from error
        return b"".join(received)

    def _wait_handshake(self, remaining: float, timeout: float) -> None:
        late = UnreachableError(
            f"{self.address}: connected, but no TLS handshake within {timeout:.1f} s: check the port and the collector"
        )
        if remaining <= 0:
            raise late
        self._push()
        if self._broken:
            raise UnreachableError(f"{self.address}: connection lost in the TLS handshake ({self._broken})")
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._cipher else 0))
        if not self._poll.poll(remaining * 1000):
            raise late
        try:
            count = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise UnreachableError(
                f"{self.address}: connection lost in the TLS handshake ({_reason(error)})"
            ) from error
        if not count:
            raise UnreachableError(
                f"{self.address}: connection closed in the TLS handshake: the collector may be busy, or is none"
            )
        self._incoming.write(memoryview(self._buffer)[:count])

    def _flush_alert(self) -> None:
        """Send what TLS still wants to say, if it goes at once; else the peer misses a courtesy."""
        with suppress(OSError):
            self._socket.send(self._outgoing.read())

    def _blame_handshake(self, error: ssl.SSLError) -> NetdumpError:
        """Whose fault it is. Only what cannot be mere damage on the way makes an impostor, who is not tried again."""
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in NAME_MISMATCH:
                return ImpostorError(
                    f"{self.address} has the certificate of another name: check the address; if the collector is to "
                    "have this one, give it with `netdump renew --collector` there"
                )
            return ImpostorError(
                f"{self.address} has a certificate that is not the collector's ({error.verify_message}): "
                "check the address; if the collector was set up anew, enroll this host again"
            )
        if error.reason in REFUSALS:
            return self._blame(error)
        what = f"{self.address} does not speak netdump over TLS 1.3 ({_reason(error)}): check the address and the port"
        if error.reason == "TLSV1_ALERT_NO_APPLICATION_PROTOCOL":
            return ImpostorError(what)
        return RemoteProtocolError("unexpected-message", what)

    def _blame(self, error: ssl.SSLError) -> NetdumpError:
        if error.reason in REFUSALS:
            return RefusedError(
                f"{self.address} does not accept this host's certificate ({_reason(error)}): "
                "it was revoked, has expired or is of another authority; enroll this host again"
            )
        return UnreachableError(f"{self.address}: connection lost ({_reason(error)})")


def open_link(
    address: Address,
    context: ssl.SSLContext,
    resolver: Resolver,
    *,
    connect_timeout: float,
    dns_timeout: float,
    deadline: float = math.inf,
) -> Link:
    """Connect to the first endpoint of a collector that finishes the TLS handshake.

    connect_timeout: seconds for each endpoint, and again for the handshake. deadline: of time.monotonic; bounds all.
    Raises UnreachableError, and if it is the same with every endpoint ImpostorError, RefusedError, RemoteProtocolError.
    """
    problems: list[str] = []
    failures: list[NetdumpError] = []
    for endpoint in resolver.lookup(address, max(0.0, min(dns_timeout, deadline - time.monotonic()))):
        narrow = resolver.is_narrow(endpoint)
        try:
            connection = _connect(endpoint, max(0.001, min(connect_timeout, deadline - time.monotonic())), narrow)
        except OSError as error:
            resolver.blame(endpoint)
            problems.append(f"{endpoint}: {_reason(error)}")
            continue
        link = Link(address, connection, context, partial(resolver.blame, endpoint))
        limit = min(time.monotonic() + connect_timeout, deadline)
        try:
            link.handshake(limit - time.monotonic())
        except NetdumpError as error:
            link.close()
            link.blame(silent=time.monotonic() >= limit)  # nothing came; who closes has heard us
            failures.append(error)
            continue
        return link
    if problems:
        failures.append(
            UnreachableError(
                f"{address} cannot be reached ({'; '.join(problems)}): check that the collector runs and the network "
                "is up"
            )
        )
    if any(isinstance(error, UnreachableError) for error in failures):
        raise UnreachableError("; ".join(dict.fromkeys(map(str, failures))))
    raise failures[0]


def _connect(endpoint: Endpoint, timeout: float, narrow: bool) -> socket.socket:
    """Open a TCP connection within timeout seconds. narrow: with small segments, both ways. Raises OSError."""
    connection = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if narrow:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
        connection.settimeout(timeout)
        connection.connect(endpoint.address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        connection.close()
        raise
    return connection


def _reason(error: OSError) -> str:
    """Say in a few words what an OSError or SSLError means."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)
