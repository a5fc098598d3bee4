"""The kernel's figure of what a network takes, and when it is one."""

from __future__ import annotations

import socket
import sys

from netdump.client.tcpinfo import APP_LIMITED_AT, TCP_INFO_BYTES, DeliveryRate


class Played:
    """Answers getsockopt as told."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = list(answers)

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert (level, name, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def info(rate: int, *, limited: bool = False) -> bytes:
    raw = bytearray(TCP_INFO_BYTES - 8) + rate.to_bytes(8, sys.byteorder)
    raw[APP_LIMITED_AT] = limited
    return bytes(raw)


def test_a_lower_bound_counts_only_if_it_is_higher() -> None:
    rate = DeliveryRate(
        Played(info(50, limited=True), info(20, limited=True), info(10), info(5, limited=True), info(30))
    )
    seen = []
    for _ in range(5):
        rate.read()
        seen.append((rate.rate, rate.sure))
    assert seen == [(50.0, False), (50.0, False), (10.0, True), (10.0, True), (30.0, True)]


def test_a_kernel_that_does_not_tell() -> None:
    rate = DeliveryRate(Played(OSError(92, "not available"), bytes(104)))
    assert (rate.read(), rate.read(), rate.sure) == (0.0, 0.0, False)


def test_a_real_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            near.sendall(bytes(100_000))
            assert far.recv(1)
            rate = DeliveryRate(near)
            assert rate.read() >= 0.0
