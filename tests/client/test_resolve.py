from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from netdump.client.address import Address
from netdump.client.resolve import ENDPOINTS_MAX, Resolver
from netdump.errors import UnreachableError

NAME = Address("collector.example", 7461)


def refuse(_: threading.Thread) -> None:
    """Stands in for the start of a thread where there is a limit."""
    raise RuntimeError("can't start new thread")


class Names:
    """Stands in for getaddrinfo where it is asked for a name; numbers still work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: list[str] | OSError = []
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: bytes, port: int, **options: Any) -> Any:
        if options["flags"] & socket.AI_NUMERICHOST:
            return self._real(host, port, **options)
        self.calls += 1
        assert self.gate.wait(10)
        if isinstance(self.answer, OSError):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.answer]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_numbers_need_no_name_server(names: Names) -> None:
    names.gate.clear()
    assert Resolver().lookup(Address("127.0.0.1", 99), 0.01)[0].address == ("127.0.0.1", 99)
    assert Resolver().lookup(Address("::1", 99), 0.01)[0].address[:2] == ("::1", 99)
    assert names.calls == 0


def test_all_addresses_of_a_name_in_order_and_bounded(names: Names) -> None:
    names.answer = [f"10.0.0.{number}" for number in range(20)]
    found = Resolver().lookup(NAME, 5)
    assert [str(endpoint) for endpoint in found] == names.answer[:ENDPOINTS_MAX]


def test_a_hanging_lookup_ends_in_time_and_is_not_doubled(names: Names) -> None:
    names.gate.clear()
    resolver = Resolver()
    for _ in range(3):
        with pytest.raises(UnreachableError, match=r"collector\.example:7461: .*no answer within 0\.01 s"):
            resolver.lookup(NAME, 0.01)
    assert names.calls == 1
    names.answer = ["10.0.0.1"]
    names.gate.set()
    assert str(resolver.lookup(NAME, 5)[0]) == "10.0.0.1"  # the answer that came late is used
    assert names.calls == 1


def test_without_a_thread_the_name_is_looked_up_all_the_same(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    names.answer = ["10.0.0.1"]
    assert str(Resolver().lookup(NAME, 5)[0]) == "10.0.0.1"
    names.answer = socket.gaierror(-2, "Name or service not known")
    with pytest.raises(UnreachableError, match="cannot be looked up"):
        Resolver().lookup(NAME, 5)


@pytest.mark.parametrize("answer", [[], socket.gaierror(-2, "Name or service not known")])
def test_no_answer_is_said(names: Names, answer: Any) -> None:
    names.answer = answer
    with pytest.raises(UnreachableError, match="cannot be looked up"):
        Resolver().lookup(NAME, 5)


def test_what_was_known_serves_when_the_name_server_fails(names: Names) -> None:
    resolver = Resolver()
    names.answer = ["10.0.0.1"]
    before = resolver.lookup(NAME, 5)
    names.answer = socket.gaierror(-3, "Temporary failure in name resolution")
    assert resolver.lookup(NAME, 5) == before
    names.gate.clear()
    assert resolver.lookup(NAME, 0.01) == before
    names.gate.set()


def test_what_is_known_is_not_waited_for_long(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three dead name servers take ten seconds, at each connection (glibc 2.36)."""
    resolver = Resolver()
    names.answer = ["10.0.0.1"]
    before = resolver.lookup(NAME, 5)
    names.gate.clear()
    monkeypatch.setattr("netdump.client.resolve.KNOWN_SECONDS", 0.01)
    begun = time.monotonic()
    assert resolver.lookup(NAME, 9) == before
    assert time.monotonic() - begun < 5
    names.gate.set()


def test_who_failed_comes_later(names: Names) -> None:
    resolver = Resolver()
    names.answer = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    first, second, _ = resolver.lookup(NAME, 5)
    resolver.blame(first)
    assert [str(endpoint) for endpoint in resolver.lookup(NAME, 5)] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    resolver.blame(second)
    resolver.blame(second)
    assert [str(endpoint) for endpoint in resolver.lookup(NAME, 5)] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]


def test_after_silence_segments_are_small_and_after_silence_again_not() -> None:
    resolver = Resolver()
    (endpoint,) = resolver.lookup(Address("127.0.0.1", 99), 1)
    seen = []
    for silent in (False, True, False, True, True):
        resolver.blame(endpoint, silent=silent)
        seen.append(resolver.is_narrow(endpoint))
    assert seen == [False, True, True, False, True]
