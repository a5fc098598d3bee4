"""Connections are kept, noticed to be gone, and never reused with something left in them."""

from __future__ import annotations

import socket
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from netdump.pki import Authority, api_server_context
from netdump.pki.channel import FAULTS, Channel
from netdump.pki.endpoint import Endpoint
from netdump.pki.tls import verifying_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Far:
    """Answers each request with the next of its answers; after an empty one it closes the connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answers: deque[bytes] = deque()
        self.requests: list[bytes] = []
        self.connections = 0
        self.flood = b""
        self.closed = threading.Event()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("localhost", self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(connection, server_side=True) as peer:
            while request := peer.recv(65536):
                self.requests.append(request)
                peer.sendall(self.answers.popleft())
                while self.flood:
                    peer.sendall(self.flood)
                if self.answers and not self.answers[0]:
                    self.answers.popleft()
                    break
        self.closed.set()


@pytest.fixture
def far(folder: Path) -> Iterator[Far]:
    far = Far(api_server_context(folder))
    yield far
    far.close()


@pytest.fixture
def channel(far: Far, folder: Path) -> Iterator[Channel]:
    channel = Channel(far.endpoint, verifying_context(Authority.load(folder).ca_pem), keep=1)
    yield channel
    channel.close()


def get(channel: Channel) -> bytes:
    answer = channel.ask("GET", "/x")
    try:
        return answer.read(100)
    finally:
        answer.close()


def test_one_connection_serves_one_request_after_another(far: Far, channel: Channel) -> None:
    far.answers.extend([OK, OK, OK])
    assert [get(channel) for _ in range(3)] == [b"hello"] * 3
    assert far.connections == 1
    assert b"GET /x HTTP/1.1" in far.requests[0]
    assert b"User-Agent: netdump/" in far.requests[0]


def test_a_connection_that_was_closed_meanwhile_is_not_used(far: Far, channel: Channel) -> None:
    far.answers.extend([OK, b"", OK])
    assert get(channel) == b"hello"
    assert far.closed.wait(10)
    assert get(channel) == b"hello"
    assert far.connections == 2


def test_no_connection_is_used_with_something_left_in_it(far: Far, channel: Channel) -> None:
    far.answers.extend([OK, OK])
    channel.ask("GET", "/x").close()
    assert get(channel) == b"hello"
    assert far.connections == 2


def test_no_more_are_kept_than_wanted(far: Far, channel: Channel) -> None:
    far.answers.extend([OK] * 4)
    both = [channel.ask("GET", "/x") for _ in range(2)]
    for answer in both:
        assert answer.read(100) == b"hello"
        answer.close()
    assert [get(channel), get(channel)] == [b"hello"] * 2
    assert far.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_cut_answer_is_an_error_after_what_had_come(far: Far, channel: Channel, answer: bytes) -> None:
    got: list[bytes] = []

    def read() -> None:
        for piece in opened.pieces(5):
            got.append(piece)  # noqa: PERF402 - what came before the error counts

    far.answers.extend([answer, b"", answer, b""])
    opened = channel.ask("GET", "/x")
    with pytest.raises(FAULTS):
        read()
    opened.close()
    assert got == [b"hello"]
    with pytest.raises(FAULTS):
        get(channel)


def test_pieces(far: Far, channel: Channel) -> None:
    far.answers.append(OK)
    answer = channel.ask("GET", "/x")
    assert (answer.status, answer.headers["content-length"]) == (200, "5")
    assert list(answer.pieces(2)) == [b"he", b"ll", b"o"]
    answer.close()
    answer.close()


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000])
def test_what_is_no_answer_is_an_error(far: Far, channel: Channel, answer: bytes) -> None:
    far.answers.extend([answer, b""])
    with pytest.raises(FAULTS):
        channel.ask("GET", "/x")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def first_five(channel: Channel) -> bytes:
    """An answer of which no more is wanted."""
    answer = channel.ask("GET", "/x")
    try:
        piece = next(answer.pieces(5))
        answer.finish()
        return piece
    finally:
        answer.close()


def test_a_connection_serves_again_when_the_end_of_an_answer_is_read(far: Far, channel: Channel) -> None:
    far.answers.extend([CHUNKED + b"0\r\nA: b\r\n\r\n", OK, OK])
    assert [first_five(channel) for _ in range(3)] == [b"hello"] * 3
    assert far.connections == 1


@pytest.mark.parametrize(
    "more", [b"", b"0\r\n", b"3\r\nall\r\n0\r\n\r\n", b"nonsense\r\n", b"0\r\n" + b"X: y\r\n" * 1000]
)
def test_who_does_not_end_an_answer_is_not_asked_again(
    far: Far, channel: Channel, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netdump.pki.channel.END_SECONDS", 0.2)
    far.answers.extend([CHUNKED + more, OK])
    assert [first_five(channel), first_five(channel)] == [b"hello"] * 2
    assert far.connections == 2


def test_the_end_of_an_answer_is_not_waited_for_without_a_watch(
    far: Far, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_watch: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    far.answers.extend([CHUNKED, OK])
    assert [first_five(channel), first_five(channel)] == [b"hello"] * 2
    assert far.connections == 2


def test_no_connection_is_used_after_an_answer_that_makes_no_sense(far: Far, channel: Channel) -> None:
    far.answers.extend([CHUNKED + b"nonsense\r\n", OK])
    with pytest.raises(FAULTS):
        get(channel)
    assert get(channel) == b"hello"
    assert far.connections == 2


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_of_less_than_nothing_is_not_read(far: Far, channel: Channel, size: bytes) -> None:
    far.answers.extend([CHUNKED + size + b"\r\n", b""])
    far.flood = bytes(65536)
    end = threading.Timer(0.5, setattr, [far, "flood", b""])
    end.start()
    with pytest.raises(FAULTS):
        get(channel)
    assert far.flood, "it was read as long as anything came"
    end.cancel()
    far.flood = b""


@pytest.mark.parametrize(
    ("begin", "line"),
    [(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (CHUNKED + b"5\r\nhello\r\n0\r\n", b"X: y\r\n")],
    ids=["continue", "trailers"],
)
def test_lines_without_end_are_an_error(far: Far, channel: Channel, begin: bytes, line: bytes) -> None:
    far.answers.extend([begin, b""])
    far.flood = line * 1000
    end = threading.Timer(5, setattr, [far, "flood", b""])
    end.start()
    with pytest.raises(FAULTS, match="lines of headers"):
        get(channel)
    assert far.flood, "they were read as long as they came"
    end.cancel()
    far.flood = b""
