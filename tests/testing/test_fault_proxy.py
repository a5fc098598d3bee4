"""Each fault of the proxy, on plain TCP."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from netdump.testing.fault_proxy import FaultProxy, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 10.0


class Sink:
    """A target that keeps what it gets and answers with it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                got = b""
                try:
                    while data := connection.recv(4096):
                        got += data
                        connection.sendall(data)
                except OSError:
                    self.resets += 1
                self.received.append(got)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)


@pytest.fixture
def sink() -> Iterator[Sink]:
    one = Sink()
    yield one
    one.stop()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(proxy.address, TIMEOUT)


def talk(proxy: FaultProxy, data: bytes) -> tuple[bytes, str]:
    """Send data and the end of stream, read to the end; say what came back and how it ended."""
    got = b""
    try:
        with connect(proxy) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(4096):
                got += piece
    except OSError:  # reset, or not connected any more
        return got, "reset"
    return got, "end"


DATA = bytes(range(256)) * 40


def test_forwards_both_ways_and_counts(sink: Sink) -> None:
    with FaultProxy(sink.address) as proxy:
        assert talk(proxy, DATA) == (DATA, "end")
        assert talk(proxy, b"again") == (b"again", "end")
        for passage in proxy.passages:
            assert passage.ended.wait(TIMEOUT)
    assert [(passage.up, passage.down) for passage in proxy.passages] == [(len(DATA), len(DATA)), (5, 5)]
    assert sink.received == [DATA, b"again"]


@pytest.mark.parametrize("position", [0, 1, 4096, 10239])
def test_cut_up_after_so_many_bytes(sink: Sink, position: int) -> None:
    with FaultProxy(sink.address, [Faults(cut_up=position)]) as proxy:
        _, end = talk(proxy, DATA)
        assert end == "reset"
        assert proxy.passages[0].ended.wait(TIMEOUT)
    assert proxy.passages[0].up == position
    assert len(sink.received) in {0, 1}  # it may still be in recv; it never has more
    assert all(len(got) <= position for got in sink.received)


def test_cut_down_after_so_many_bytes(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(cut_down=3)]) as proxy:
        got, end = talk(proxy, DATA)
        assert proxy.passages[0].ended.wait(TIMEOUT)
    assert (len(got) <= 3, end, proxy.passages[0].down) == (True, "reset", 3)


def test_close_is_a_proper_end(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(close_down=3)]) as proxy, connect(proxy) as client:
        client.sendall(b"abc")
        assert client.recv(10) == b"abc"
        assert client.recv(10) == b""


def test_stall_keeps_the_connection_and_forwards_no_more(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(stall_up=4)]) as proxy, connect(proxy) as client:
        client.sendall(b"abcdefgh")
        assert client.recv(10) == b"abcd"
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(10)
        assert proxy.passages[0].up == 4
        assert not proxy.passages[0].ended.is_set()


def test_slices_arrive_whole(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(slice_max=7)], seed=1) as proxy:
        assert talk(proxy, DATA) == (DATA, "end")


def test_throttle_takes_its_time(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(rate=10_000, slice_max=500)]) as proxy:
        start = time.monotonic()
        assert talk(proxy, DATA[:2000]) == (DATA[:2000], "end")
        assert time.monotonic() - start > 0.1


def test_flip_changes_one_bit_the_same_way_each_time(sink: Sink) -> None:
    damaged = []
    for _ in range(2):
        with FaultProxy(sink.address, [Faults(flip_up=5000)], seed=7) as proxy:
            got, _ = talk(proxy, DATA)
            damaged.append(got)
    assert damaged[0] == damaged[1]
    differences = [(place, a ^ b) for place, (a, b) in enumerate(zip(DATA, damaged[0], strict=True)) if a != b]
    assert len(differences) == 1
    assert differences[0][0] == 5000
    assert differences[0][1].bit_count() == 1


def test_refuse_resets_without_asking_the_target(sink: Sink) -> None:
    with FaultProxy(sink.address, [Faults(refuse=True)]) as proxy:
        assert talk(proxy, b"x")[1] == "reset"
        assert talk(proxy, b"x") == (b"x", "end")
    assert sink.received == [b"x"]


def test_plan_may_be_a_function(sink: Sink) -> None:
    with FaultProxy(sink.address, lambda number: Faults(refuse=number % 2 == 0)) as proxy:
        assert [talk(proxy, b"x")[1] for _ in range(4)] == ["reset", "end", "reset", "end"]


def test_target_that_is_not_there_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()[:2]
    with FaultProxy(address) as proxy:
        with pytest.raises(OSError, match="reset"), connect(proxy) as client:
            client.recv(1)
        assert proxy.passages[0].ended.wait(TIMEOUT)


def test_cut_all_resets_what_is_open_and_accepts_more(sink: Sink) -> None:
    with FaultProxy(sink.address) as proxy:
        with connect(proxy) as client:
            client.sendall(b"abc")
            assert client.recv(3) == b"abc"
            proxy.cut_all()
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        assert talk(proxy, b"next") == (b"next", "end")


def test_stop_ends_a_stalled_connection(sink: Sink) -> None:
    proxy = FaultProxy(sink.address, [Faults(stall_up=0)]).start()
    with connect(proxy) as client:
        client.sendall(b"x")
        proxy.stop()
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
