from __future__ import annotations

import socket
import struct
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.image.init import dhcp
from netdump.image.init.dhcp import Lease, pack_message, parse_message
from netdump.image.init.plan import Route

if TYPE_CHECKING:
    from netdump.image.init.dhcp import Reply

MAC = bytes.fromhex("525400123456")
TRANSACTION = 0x01020304


def answer(options: bytes, *, address: str = "192.0.2.7", mac: bytes = MAC, transaction: int = TRANSACTION) -> bytes:
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, transaction, 0, 0) + bytes(4) + socket.inet_aton(address) + bytes(8)
    return head + mac.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63" + options


ACK = bytes((53, 1, 5)) + bytes((54, 4, 192, 0, 2, 1))


def test_what_a_server_reads_in_our_messages() -> None:
    message = pack_message(3, TRANSACTION, MAC, bytes((192, 0, 2, 7)), bytes((192, 0, 2, 1)))
    assert len(message) >= 300
    assert message[:4] == bytes((1, 1, 6, 0))
    assert message[28:34] == MAC
    assert message[236:243] == b"\x63\x82\x53\x63\x35\x01\x03"
    assert bytes((50, 4, 192, 0, 2, 7)) in message
    assert bytes((54, 4, 192, 0, 2, 1)) in message
    assert message.rstrip(b"\0").endswith(b"\xff")


def test_a_lease() -> None:
    options = ACK + bytes((1, 4, 255, 255, 254, 0, 3, 4, 192, 0, 2, 1, 6, 8, 192, 0, 2, 53, 192, 0, 2, 54, 255))
    reply = parse_message(answer(options), TRANSACTION, MAC)
    assert reply is not None
    assert (reply.type, reply.server) == (5, bytes((192, 0, 2, 1)))
    assert reply.lease == Lease(
        "192.0.2.7", 23, (Route("default", "192.0.2.1"),), ("192.0.2.53", "192.0.2.54"), "192.0.2.1"
    )


def option(code: int, seconds: int) -> bytes:
    return bytes((code, 4)) + seconds.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("options", "seconds", "half_time"),
    [
        (b"", None, 0),  # as BOOTP servers answer
        (option(51, 0xFFFFFFFF), None, 0),
        (option(51, 3600), 3600, 1800),
        (option(51, 3600) + option(58, 600), 3600, 600),
        (option(51, 3600) + option(58, 3600), 3600, 1800),  # a time that makes no sense
        (option(51, 3600) + option(58, 0), 3600, 1800),
        (option(51, 0), 60, 30),
        (option(51, 5) + option(58, 2), 60, 30),
        (bytes((51, 2, 0, 9)), None, 0),
    ],
)
def test_how_long_a_lease_lasts(options: bytes, seconds: int | None, half_time: int) -> None:
    reply = parse_message(answer(ACK + options), TRANSACTION, MAC)
    assert reply is not None
    assert (reply.lease.seconds, reply.lease.half_time) == (seconds, half_time)


def test_who_has_an_address_says_so() -> None:
    message = pack_message(3, TRANSACTION, MAC, address=bytes((192, 0, 2, 7)))
    assert message[12:16] == bytes((192, 0, 2, 7))
    assert message[10:12] == b"\0\0"  # it need not be answered by broadcast
    assert bytes((50, 4)) not in message
    assert bytes((54, 4)) not in message


def test_a_server_that_refuses_is_not_asked_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on the wire hears it, and the other side may refuse each request of a hundred hosts."""
    offer = parse_message(answer(bytes((53, 1, 2)) + ACK[3:]), TRANSACTION, MAC)
    refusal = parse_message(answer(bytes((53, 1, 6)) + ACK[3:], address="0.0.0.0"), TRANSACTION, MAC)
    now, asked = [100.0], [0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def send(*_: object) -> None:
        asked[0] += 1
        assert asked[0] < 100

    monkeypatch.setattr(dhcp, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(dhcp, "_open_link", lambda _: nullcontext())
    monkeypatch.setattr(dhcp, "_open_receiver", lambda *_: nullcontext())
    monkeypatch.setattr(dhcp, "_send", send)
    monkeypatch.setattr(dhcp, "_receive", lambda *words: offer if 2 in words[3] else refusal)
    assert dhcp.obtain_lease("eth0", "52:54:00:12:34:56", 145.0) is None
    assert now[0] == 145.0


def test_a_server_is_told_how_long_nobody_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two that share their clients waits for that where the first one is away."""
    offer = parse_message(answer(bytes((53, 1, 2)) + ACK[3:]), TRANSACTION, MAC)
    granted = parse_message(answer(ACK), TRANSACTION, MAC)
    now, told = [100.0], list[int]()

    def receive(*words: Any) -> Reply | None:
        if told[-1] < 4:
            now[0] = words[4]
            return None
        return offer if 2 in words[3] else granted

    monkeypatch.setattr(dhcp, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(dhcp, "_open_link", lambda _: nullcontext())
    monkeypatch.setattr(dhcp, "_open_receiver", lambda *_: nullcontext())
    monkeypatch.setattr(dhcp, "_send", lambda _, message: told.append(int.from_bytes(message[8:10], "big")))
    monkeypatch.setattr(dhcp, "_receive", receive)
    assert dhcp.obtain_lease("eth0", "52:54:00:12:34:56", 145.0) is not None
    assert told == [0, 1, 3, 7, 7], "and the request what its question told (RFC 2131 section 4.4.1)"


ROUTER = (Route("default", "192.0.2.1"),)


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (b"", ROUTER),
        (
            bytes((24, 198, 51, 100, 192, 0, 2, 9, 0, 192, 0, 2, 8)),
            (Route("198.51.100.0/24", "192.0.2.9"), Route("default", "192.0.2.8")),
        ),
        (bytes((8, 10, 192, 0, 2, 9)), (Route("10.0.0.0/8", "192.0.2.9"),)),  # and the router does not count
        (bytes((32, 10, 1, 2, 3, 0, 0, 0, 0)), (Route("10.1.2.3/32", ""),)),
        (bytes((12, 172, 31, 192, 0, 2, 9)), (Route("172.16.0.0/12", "192.0.2.9"),)),
        (bytes((24, 198, 51, 100, 192, 0, 2, 9, 24, 10)), (Route("198.51.100.0/24", "192.0.2.9"),)),
        (bytes((33, 10, 0, 0, 0, 0, 192, 0, 2, 9)), ROUTER),
        (bytes((24, 198, 51)), ROUTER),
        (bytes((0, 192, 0, 2, 9)) * 40, (Route("default", "192.0.2.9"),) * dhcp.ROUTES_MAX),
    ],
)
def test_classless_routes_win(routes: bytes, expected: tuple[Route, ...]) -> None:
    options = ACK + bytes((3, 4, 192, 0, 2, 1, 121, len(routes))) + routes
    reply = parse_message(answer(options), TRANSACTION, MAC)
    assert reply is not None
    assert reply.lease.routes == expected


def test_what_is_not_for_us() -> None:
    for message in (
        answer(ACK, mac=b"\1" * 6),
        answer(ACK, transaction=9),
        answer(ACK, address="0.0.0.0"),
        answer(ACK)[:200],
        answer(b""),
        pack_message(1, TRANSACTION, MAC),
        answer(ACK).replace(b"\x63\x82\x53\x63", b"xxxx"),
    ):
        assert parse_message(message, TRANSACTION, MAC) is None


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=80))
def test_no_options_are_too_strange(options: bytes) -> None:
    parse_message(answer(options), TRANSACTION, MAC)
    parse_message(answer(ACK + options), TRANSACTION, MAC)
