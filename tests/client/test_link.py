"""TLS over a socket: who is at fault when it does not come about, and that no wait is longer than it should be."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from netdump.client.address import Address
from netdump.client.credentials import client_context
from netdump.client.link import ENCRYPT_BYTES, RECORD_BYTES, SMALL_SEGMENT_BYTES, Link, open_link
from netdump.client.resolve import Endpoint, Resolver
from netdump.errors import ImpostorError, RefusedError, RemoteProtocolError, UnreachableError
from netdump.testing.fault_proxy import FaultProxy, Faults
from tests.client.certificates import Authority, Pair, server_context
from tests.client.collector import unanswered

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 10.0
Handler = Callable[[ssl.SSLSocket], None]


class TlsServer:
    """One connection after the other: handshake, then the handler."""

    def __init__(self, context: ssl.SSLContext, handler: Handler) -> None:
        self.errors: list[str] = []
        self._context = context
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()[:2]
        self.address = Address(host, port)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw:
                raw.settimeout(TIMEOUT)
                try:
                    with self._context.wrap_socket(raw, server_side=True) as tls:
                        self._handler(tls)
                except OSError as error:
                    self.errors.append(str(error))

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)


Serve = Callable[..., TlsServer]


def echo(tls: ssl.SSLSocket) -> None:
    while data := tls.recv(1 << 16):
        tls.sendall(data)


@pytest.fixture
def serve(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    started: list[TlsServer] = []

    def start(
        handler: Handler = echo,
        pair: Pair | None = None,
        hosts: Authority | None = None,
        alpn: str | None = "netdump/1",
        adjust: Callable[[ssl.SSLContext], None] = lambda _: None,
    ) -> TlsServer:
        context = server_context(tmp_path, pair or authority.collector(), hosts or authority, alpn)
        adjust(context)
        started.append(TlsServer(context, handler))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def dial(address: Address, context: ssl.SSLContext, timeout: float = TIMEOUT) -> Link:
    return open_link(address, context, Resolver(), connect_timeout=timeout, dns_timeout=timeout)


def read(link: Link, count: int) -> bytes:
    """Read at least count bytes, or to the end of the stream."""
    got = b""
    limit = time.monotonic() + TIMEOUT
    while len(got) < count and not link.eof and time.monotonic() < limit:
        got += link.exchange(0.1)
    return got


def test_sends_and_receives_at_the_same_time(serve: Serve, context: ssl.SSLContext) -> None:
    link = dial(serve().address, context)
    data = bytes(range(256)) * 20_000  # far more than the socket buffers of both sides hold
    link.send(data[:1000])
    link.send(b"")
    link.send(data[1000:])
    assert link.pending == len(data)
    assert read(link, len(data)) == data
    assert link.pending == 0
    assert link.sent_bytes > len(data)
    link.close()


@pytest.mark.parametrize("first", [0, 200, 16_384, 40_000])
def test_what_follows_goes_in_full_records(serve: Serve, context: ssl.SSLContext, first: int) -> None:
    link = dial(serve().address, context)
    records = 0
    for more in (0, 5, 16_000, 300_000):
        head, body = bytes(range(200)) * (first // 200), bytes(range(256)) * (more // 256)
        link.send(head, memoryview(body))
        assert link.pending == len(head) + len(body)
        assert read(link, len(head) + len(body)) == head + body
        records += -(-(len(head) + len(body)) // RECORD_BYTES) + (len(head) > RECORD_BYTES)
    assert link.sent_records <= records
    link.close()


def test_exchange_waits_no_longer_than_told(serve: Serve, context: ssl.SSLContext) -> None:
    link = dial(serve().address, context)
    for timeout in (0, 0.05):
        start = time.monotonic()
        assert link.exchange(timeout) == b""
        assert timeout <= time.monotonic() - start < timeout + 1
    link.close()


def test_exchange_returns_when_the_queue_has_emptied(serve: Serve, context: ssl.SSLContext) -> None:
    link = dial(serve(lambda tls: tls.recv(10) and None).address, context)
    link.send(b"x")
    start = time.monotonic()
    link.exchange(TIMEOUT)
    assert time.monotonic() - start < TIMEOUT / 2
    assert link.pending == 0
    link.close()


def test_a_peer_that_does_not_read_stalls_nothing(serve: Serve, context: ssl.SSLContext) -> None:
    done = threading.Event()
    link = dial(serve(lambda _: done.wait(TIMEOUT) and None).address, context)
    link.send(bytes(64 << 20))
    for _ in range(20):
        assert link.exchange(0.01) == b""
    assert 0 < link.pending < 64 << 20
    assert link.sent_records * RECORD_BYTES <= link.sent_bytes + ENCRYPT_BYTES
    done.set()
    link.close(farewell=0.1)


def test_what_is_encrypted_already_is_pending_too(serve: Serve, context: ssl.SSLContext) -> None:
    done = threading.Event()
    link = dial(serve(lambda _: done.wait(TIMEOUT) and None).address, context)
    while link.pending == 0:
        link.send(bytes(ENCRYPT_BYTES))
        link.exchange(0)
    assert link.pending > 0
    done.set()
    link.close()


def test_what_is_queued_leaves_before_the_end(serve: Serve, context: ssl.SSLContext) -> None:
    """An ERROR, say, behind a chunk."""
    got = bytearray()
    ended = threading.Event()

    def collect(tls: ssl.SSLSocket) -> None:
        while data := tls.recv(1 << 16):
            got.extend(data)
        ended.set()

    link = dial(serve(collect).address, context)
    link.send(bytes(16 << 20), b"error")
    link.close(farewell=TIMEOUT)
    assert ended.wait(TIMEOUT)
    assert (len(got), bytes(got[-5:])) == ((16 << 20) + 5, b"error")


def test_a_reset_while_receiving_is_a_lost_connection(serve: Serve, context: ssl.SSLContext) -> None:
    def reset(tls: ssl.SSLSocket) -> None:
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    link = dial(serve(reset).address, context)
    with pytest.raises(UnreachableError, match=r"connection lost \(Connection reset by peer\)"):
        read(link, 1)
    link.close()


def test_a_clean_end_is_told(serve: Serve, context: ssl.SSLContext) -> None:
    def farewell(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"bye")
        tls.unwrap()

    link = dial(serve(farewell).address, context)
    assert read(link, 99) == b"bye"
    assert link.eof
    link.close()


def test_an_end_without_farewell_is_an_end(serve: Serve, context: ssl.SSLContext) -> None:
    link = dial(serve(lambda tls: tls.sendall(b"bye")).address, context)
    assert read(link, 99) == b"bye"
    assert link.eof
    link.close()


def test_a_reset_while_sending_still_yields_what_was_said(serve: Serve, context: ssl.SSLContext) -> None:
    closed = threading.Event()

    def complain(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"because")
        tls.close()  # with unread data in its buffer: the kernel answers with a reset
        closed.set()

    link = dial(serve(complain).address, context)
    assert closed.wait(TIMEOUT)
    got: list[bytes] = []

    def send_until_it_breaks() -> None:
        for _ in range(1000):
            link.send(bytes(100_000))
            got.append(link.exchange(0))

    with pytest.raises(UnreachableError, match="connection lost"):
        send_until_it_breaks()
    assert b"".join(got) == b"because"
    link.close(farewell=1)


# Who is at fault


def test_nobody_there(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = Address(*free.getsockname()[:2])
    with pytest.raises(UnreachableError, match=rf"{address} cannot be reached .*Connection refused.*check that"):
        dial(address, context)


def test_every_endpoint_is_tried(serve: Serve, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    good = serve().address
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = ("127.0.0.1", free.getsockname()[1])
    endpoints = [Endpoint(socket.AF_INET, dead), Endpoint(socket.AF_INET, (good.host, good.port))]
    monkeypatch.setattr(Resolver, "lookup", lambda *_: endpoints)
    dial(good, context).close()


@pytest.mark.parametrize("bad", ["silent", "impostor"])
def test_an_endpoint_that_accepts_but_is_no_collector_hides_no_other(
    bad: str, serve: Serve, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = serve().address
    impostor = serve(pair=Authority("other").collector()).address
    with socket.create_server(("127.0.0.1", 0)) as silent:
        other = {"silent": Address(*silent.getsockname()[:2]), "impostor": impostor}[bad]
        endpoints = [Endpoint(socket.AF_INET, (each.host, each.port)) for each in (other, good)]
        monkeypatch.setattr(Resolver, "_lookup", lambda *_: endpoints)
        resolver = Resolver()
        link = open_link(good, context, resolver, connect_timeout=0.5, dns_timeout=1)
        link.send(b"x")
        assert read(link, 1) == b"x"
        link.close()
        assert resolver.lookup(good, 1) == endpoints[::-1], "the next time it is not waited for"


def test_what_may_pass_is_told_of_several_endpoints(
    serve: Serve, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = serve(pair=Authority("other").collector()).address
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = Address(*free.getsockname()[:2])
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = Address(*mute.getsockname()[:2])
        for addresses, error, text in (
            ((impostor, silent), UnreachableError, r"no TLS handshake"),
            ((dead, silent), UnreachableError, r"no TLS handshake.*; .*Connection refused"),
            ((impostor, dead), UnreachableError, r"Connection refused"),
            ((impostor, impostor), ImpostorError, r"is not the collector's"),
        ):
            endpoints = [Endpoint(socket.AF_INET, (each.host, each.port)) for each in addresses]
            monkeypatch.setattr(Resolver, "_lookup", lambda *_, found=endpoints: found)
            with pytest.raises(error, match=text):
                dial(impostor, context, 0.2)


def test_after_silence_both_sides_send_small_segments(serve: Serve, context: ssl.SSLContext) -> None:
    segments: list[int] = []

    def note(tls: ssl.SSLSocket) -> None:
        segments.append(tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        tls.sendall(b"x")

    address = serve(note).address
    resolver = Resolver()
    for _ in range(2):
        link = open_link(address, context, resolver, connect_timeout=TIMEOUT, dns_timeout=TIMEOUT)
        read(link, 1)
        link.blame(silent=True)
        link.close()
    assert segments[1] <= SMALL_SEGMENT_BYTES < segments[0]


def test_a_peer_that_accepts_and_says_nothing(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        address, resolver = Address(*silent.getsockname()[:2]), Resolver()
        with pytest.raises(UnreachableError, match=r"no TLS handshake within 0\.2 s"):
            open_link(address, context, resolver, connect_timeout=0.2, dns_timeout=1)
        assert time.monotonic() - start < 5
        assert resolver.is_narrow(resolver.lookup(address, 1)[0])


def test_a_connect_that_hangs_ends_in_time(context: ssl.SSLContext) -> None:
    begun = time.monotonic()
    with unanswered() as address, pytest.raises(UnreachableError, match="timed out"):
        dial(address, context, 0.3)
    assert time.monotonic() - begun < TIMEOUT


def test_the_deadline_bounds_a_connect(context: ssl.SSLContext) -> None:
    begun = time.monotonic()
    with unanswered() as address, pytest.raises(UnreachableError, match="timed out"):
        open_link(address, context, Resolver(), connect_timeout=100, dns_timeout=100, deadline=begun + 0.2)
    assert time.monotonic() - begun < TIMEOUT


def test_the_deadline_bounds_a_handshake(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match="no TLS handshake"):
        open_link(
            Address(*silent.getsockname()[:2]),
            context,
            Resolver(),
            connect_timeout=100,
            dns_timeout=100,
            deadline=time.monotonic() + 0.2,
        )


@pytest.mark.parametrize("position", [0, 1, 100, 300])
def test_a_cut_in_the_handshake_can_be_retried(serve: Serve, context: ssl.SSLContext, position: int) -> None:
    server = serve()
    with FaultProxy((server.address.host, server.address.port), [Faults(cut_down=position)]) as proxy:
        with pytest.raises(UnreachableError, match="TLS handshake"):
            dial(Address(*proxy.address), context)
        dial(Address(*proxy.address), context).close()


def test_a_close_in_the_handshake_can_be_retried(serve: Serve, context: ssl.SSLContext) -> None:
    server, resolver = serve(), Resolver()
    proxy = FaultProxy((server.address.host, server.address.port), [Faults(close_down=5)])
    address = Address(*proxy.address)
    with proxy, pytest.raises(UnreachableError, match="closed in the TLS handshake"):
        open_link(address, context, resolver, connect_timeout=TIMEOUT, dns_timeout=TIMEOUT)
    (endpoint,) = resolver.lookup(address, TIMEOUT)
    assert (resolver.has_failed(endpoint), resolver.is_narrow(endpoint)) == (True, False)


def test_another_authority_is_an_impostor(serve: Serve, context: ssl.SSLContext) -> None:
    server = serve(pair=Authority("other").collector())
    with pytest.raises(ImpostorError, match=r"is not the collector's .*check the address"):
        dial(server.address, context)


def test_another_name_is_an_impostor(serve: Serve, context: ssl.SSLContext, authority: Authority) -> None:  # [W-03]
    with pytest.raises(ImpostorError, match=r"of another name.*netdump renew --collector"):
        dial(serve(pair=authority.collector("10.0.0.7")).address, context)
    address = serve(pair=authority.collector("other.example")).address
    with pytest.raises(ImpostorError, match="of another name"):
        dial(Address("localhost", address.port), context)


def test_a_name_that_ends_in_the_dot_of_the_root(
    serve: Serve, context: ssl.SSLContext, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(pair=authority.collector("collector.example")).address
    endpoints = [Endpoint(socket.AF_INET, (address.host, address.port))]
    monkeypatch.setattr(Resolver, "_lookup", lambda *_: endpoints)
    dial(Address("collector.example.", address.port), context).close()


def test_a_host_certificate_does_not_make_a_collector(serve: Serve, authority: Authority) -> None:
    context = client_context(authority.credentials(), "client.toml")
    with pytest.raises(ImpostorError):
        dial(serve(pair=authority.host("127.0.0.1")).address, context)


@pytest.mark.parametrize(("since", "until"), [(-2, -1), (1, 36500)])
def test_dates_of_the_collector_do_not_matter(  # [W-03]
    serve: Serve, context: ssl.SSLContext, authority: Authority, since: int, until: int
) -> None:
    server = serve(pair=authority.collector(valid=dt.timedelta(days=until), since=dt.timedelta(days=since)))
    link = dial(server.address, context)
    link.send(b"x")
    assert read(link, 1) == b"x"
    link.close()


@pytest.mark.parametrize("alpn", [None, "h2"])
def test_no_netdump_there(serve: Serve, context: ssl.SSLContext, alpn: str | None) -> None:
    with pytest.raises(ImpostorError, match="netdump"):
        dial(serve(alpn=alpn).address, context)


def test_no_tls_there(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
                connection.recv(1 << 16)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(RemoteProtocolError, match=r"does not speak netdump over TLS 1\.3 \(wrong version number\)"):
            dial(Address(*plain.getsockname()[:2]), context)
        thread.join(TIMEOUT)


def test_an_older_tls_is_not_spoken(serve: Serve, context: ssl.SSLContext) -> None:  # [W-01]
    def only_12(server: ssl.SSLContext) -> None:
        server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(RemoteProtocolError, match="does not speak netdump"):
        dial(serve(adjust=only_12).address, context)


def refused(address: Address, context: ssl.SSLContext) -> None:
    """TLS 1.3 tells a client of its certificate's refusal only after its own handshake has ended."""
    link = dial(address, context)
    try:
        link.send(b"hello")
        read(link, 1)
    finally:
        link.close()


def test_an_expired_certificate_of_ours_is_refused(serve: Serve, authority: Authority) -> None:
    expired = authority.credentials(authority.host(valid=dt.timedelta(days=-1)))
    with pytest.raises(RefusedError, match=r"does not accept this host's certificate \(.*expired\).*enroll"):
        refused(serve().address, client_context(expired, "client.toml"))


def test_a_certificate_of_another_authority_is_refused(serve: Serve, authority: Authority) -> None:
    stranger = Authority("stranger").credentials()._replace(ca=authority.certificate)
    with pytest.raises(RefusedError, match="does not accept this host's certificate"):
        refused(serve().address, client_context(stranger, "client.toml"))


def test_damage_on_the_way_is_a_lost_connection(serve: Serve, context: ssl.SSLContext) -> None:
    server = serve()
    with FaultProxy((server.address.host, server.address.port), [Faults(flip_down=20_000)]) as proxy:
        link = dial(Address(*proxy.address), context)
        link.send(bytes(100_000))
        with pytest.raises(UnreachableError, match="connection lost"):
            read(link, 100_000)
        link.close()


def test_sliced_traffic_arrives_whole(serve: Serve, context: ssl.SSLContext) -> None:
    server = serve()
    with FaultProxy((server.address.host, server.address.port), [Faults(slice_max=300)]) as proxy:
        link = dial(Address(*proxy.address), context)
        data = bytes(range(256)) * 300
        link.send(data)
        assert read(link, len(data)) == data
        link.close()
