"""Connections of the API: deadlines from the first moment, limits, and a stop in the middle of answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from netdump.index.catalog import LocalCatalog
from netdump.server.https import GOODBYE_S, HEAD_LINES_MAX, HEAD_MAX, KEEP_ALIVE_S, ApiService
from tests.server.rig import PATIENCE_S, Desk, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.index.reading import Query
    from netdump.index.record import DumpRecord

SEGMENT = f"{0:016x}-{9:016x}.seg"
ID = "0" * 32


@contextlib.contextmanager
def connected(rig: Rig, papers: Papers | None = None, buffer_bytes: int = 0) -> Iterator[ssl.SSLSocket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(rig.folder / "pki" / "ca.crt")
    if papers is not None:
        context.load_cert_chain(papers.file)
    raw = socket.socket()
    if buffer_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    raw.settimeout(PATIENCE_S)
    raw.connect((rig.api.host, rig.api.port))
    with context.wrap_socket(raw, server_hostname="localhost") as sock:
        yield sock


def rest(sock: ssl.SSLSocket) -> bytes:
    """All that comes until the connection ends."""
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := sock.recv(65536):
            data += piece
    return data


def answered(sock: ssl.SSLSocket) -> bytes:
    """Make one small request and read its answer; the connection stays open."""
    sock.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    while b"END CERTIFICATE-----\n" not in data:
        data += sock.recv(65536)
    return data


@pytest.mark.parametrize(
    ("sent", "more"),
    [
        (b"", b"G"),
        (b"G", b"E"),
        (b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nX: ", b"y"),
        (b"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{", b"}"),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_request_must_be_there_in_time(folder: Path, sent: bytes, more: bytes, again: bool) -> None:
    """All of it: a byte every now and then does not put that off."""
    if again and not sent:
        sent, more = b"GET", b" "  # silence between requests is another matter
    with Rig(folder, {"api": {"request_s": 120}}) as rig, connected(rig) as sock:  # longer than a test waits
        if again:
            answered(sock)
        else:
            see_what_came(rig)
        sock.sendall(sent)
        see_what_came(rig)
        rig.skip(119)
        sock.sendall(more)
        see_what_came(rig)
        rig.skip(1.1)
        assert rest(sock) == b""


def test_the_rest_of_a_request_that_came_with_another_must_be_there_in_time(folder: Path) -> None:
    """It is looked at only when the one before is answered, and no byte comes then."""
    head = b"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
    with Rig(folder, {"api": {"request_s": 120}}) as rig, connected(rig) as sock:
        sock.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n" + head)
        assert b"200 OK" in sock.recv(65536)
        see_what_came(rig)
        rig.skip(119)
        see_what_came(rig)
        sock.sendall(b"{")
        see_what_came(rig)
        rig.skip(1.1)
        assert b"HTTP/1.1" not in rest(sock)


def see_what_came(rig: Rig) -> None:
    """One answer from elsewhere: then the collector has taken what had come before."""
    with connected(rig) as other:
        answered(other)


def test_silence_between_requests_ends_the_connection(folder: Path) -> None:
    with Rig(folder) as rig, connected(rig) as sock:
        for _ in range(3):
            answered(sock)
            rig.skip(KEEP_ALIVE_S - 5)
        answered(sock)
        rig.skip(KEEP_ALIVE_S + 0.1)
        assert rest(sock) == b""


def test_a_head_that_is_too_large(folder: Path) -> None:
    with Rig(folder) as rig, connected(rig) as sock:
        sock.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (HEAD_MAX + 100))
        assert rest(sock).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_of_too_many_lines(folder: Path, again: bool, end: bytes) -> None:
    """Each costs the loop some time, however short it is."""
    before = b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n" if again else b""
    line, host = b"GET /v1/ca HTTP/1.1" + end, b"Host: a" + end
    for headers, status in ((HEAD_LINES_MAX - 1, b"200 "), (HEAD_LINES_MAX, b"400 ")):
        with Rig(folder) as rig, connected(rig) as sock:
            sock.sendall(before + line + host + (b"a:" + end) * (headers - 2) + b"Connection: close" + end + end)
            assert rest(sock).rpartition(b"HTTP/1.1 ")[2].startswith(status)


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_what_is_not_http(folder: Path, garbage: bytes) -> None:
    with Rig(folder) as rig, connected(rig) as sock:
        sock.sendall(garbage)
        answer = rest(sock)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Traceback" not in answer
    assert not rig.mistakes


@pytest.mark.parametrize(
    "request_line", [b"POST /v1/enroll", b"POST /v1/renew", b"GET /v1/ca", b"GET /none", b"HEAD /v1/ca", b"HEAD /none"]
)
@pytest.mark.parametrize("again", [False, True])
def test_a_request_in_chunks_is_none(folder: Path, request_line: bytes, again: bool) -> None:
    """Each may be of a byte, and a stranger would keep the loop busy with them for ever, answered or not."""
    with Rig(folder) as rig, connected(rig) as sock:
        head = request_line + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        before = b"GET /v1/ca HTTP/1.1\r\nHost: a\r\n\r\n" if again else b""
        sock.sendall(before + head + b"1\r\nx\r\n" * 100)
        answer = rest(sock).rpartition(b"HTTP/1.1 ")[2]
        assert answer.startswith(b"400 ")
        assert b"connection: close" in answer.lower()


def test_an_upgrade_is_not_taken(folder: Path) -> None:
    with Rig(folder) as rig, connected(rig) as sock:
        sock.sendall(b"GET /v1/ca HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n")
        assert rest(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("claim", [b"X-Forwarded-For: 192.0.2.9", b"Forwarded: for=192.0.2.9", b"X-Real-IP: 192.0.2.9"])
def test_nobody_says_for_whom_he_speaks(folder: Path, claim: bytes) -> None:
    """A header of a proxy is not believed: limits and log go by the address that the connection has."""
    with Rig(folder) as rig:
        with connected(rig) as sock:
            sock.sendall(b"GET /v1/dumps HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + claim + b"\r\n\r\n")
            assert b"403" in rest(sock)[:20]
        assert rig.events.wait("request-failed")["peer"] == "127.0.0.1"


def test_a_proxy_line_is_no_tls(folder: Path) -> None:
    with Rig(folder) as rig:
        with socket.create_connection((rig.api.host, rig.api.port), PATIENCE_S) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 7462\r\n")
            with contextlib.suppress(ConnectionError):
                while sock.recv(4096):
                    pass
        assert rig.events.wait("handshake-failed")["peer"] == "127.0.0.1"


def test_a_reader_that_stops_reading_is_given_up(folder: Path, ann: Papers) -> None:
    place = folder / "dumps" / ID / "segments"
    place.mkdir(parents=True)
    with (place / SEGMENT).open("wb") as file:
        file.truncate(64 << 20)
    with Rig(folder) as rig, connected(rig, ann, buffer_bytes=4096) as sock:
        sock.sendall(f"GET /v1/dumps/{ID}/segments/{SEGMENT} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert sock.recv(10) == b"HTTP/1.1 2"
        with Desk(rig, ann) as desk:
            # Others are served meanwhile, and it takes many turns of the loop: the buffers are full by then.
            for _ in range(30):
                desk.get("/v1/dumps")
        rig.skip(rig.config.api.stall_s + 0.1)
        assert len(rest(sock)) < 32 << 20


def test_the_number_of_connections_is_limited(folder: Path) -> None:
    settings = {"api": {"listen": "127.0.0.1:0", "connections": 2}}
    with Rig(folder, settings) as rig, connected(rig) as first, connected(rig) as second:
        answered(first)
        answered(second)
        with pytest.raises((ssl.SSLError, ConnectionError)), connected(rig):
            pass
        assert rig.events.wait("connection-refused")["service"] == "api"
        first.close()
        while True:
            try:
                with connected(rig) as third:
                    answered(third)
            except (ssl.SSLError, ConnectionError):
                continue
            break


def test_an_answer_under_way_is_finished_at_a_stop(folder: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    list_really = LocalCatalog.list

    def slowly(self: LocalCatalog, query: Query) -> list[DumpRecord]:
        if query.host == "slow":
            begun.set()
            assert go_on.wait(PATIENCE_S)
        return list_really(self, query)

    monkeypatch.setattr(LocalCatalog, "list", slowly)
    answers: list[object] = []
    with Rig(folder) as rig:
        desk, idle = Desk(rig, ann), Desk(rig, ann)
        idle.get("/v1/dumps")
        thread = threading.Thread(target=lambda: answers.append(desk.get("/v1/dumps?host=slow")))
        thread.start()
        assert begun.wait(PATIENCE_S)
        idle.pool.close()
        rig.collector._closing.callback(go_on.set)  # first of all that is done at the stop
    thread.join(PATIENCE_S)
    desk.pool.close()
    assert answers == [{"dumps": []}]


def test_an_answer_may_take_longer_than_a_request(folder: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(self: LocalCatalog, query: Query) -> list[DumpRecord]:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(LocalCatalog, "list", slowly)
    with Rig(folder, {"api": {"request_s": 120}}) as rig, connected(rig, ann) as sock:
        sock.sendall(b"GET /v1/dumps HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert begun.wait(PATIENCE_S)
        rig.skip(121)
        see_what_came(rig)
        go_on.set()
        assert rest(sock).endswith(b'{"dumps":[]}')


def test_whoever_says_nothing_does_not_delay_a_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took: list[float] = []
    close = ApiService.close

    async def timed(self: ApiService) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        await close(self)
        took.append(clock() - begun)

    monkeypatch.setattr(ApiService, "close", timed)
    with contextlib.ExitStack() as stack:
        with Rig(folder) as rig:
            sock = stack.enter_context(connected(rig))
            answered(sock)
        assert rest(sock) == b""
    assert took[0] < GOODBYE_S


def test_whoever_does_not_go_at_a_stop_is_dropped(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        with Rig(folder) as rig:
            sock = stack.enter_context(connected(rig))
            answered(sock)
            sock.sendall(b"GET /v1/ca HTTP/1.1\r\nX: ")
        assert rest(sock) == b""
