from __future__ import annotations

import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.image.init.dhcp import Lease, pack_message, parse_message

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
    assert reply.lease == Lease("192.0.2.7", 23, "192.0.2.1", ("192.0.2.53", "192.0.2.54"))


def test_classless_routes_win() -> None:
    routes = bytes((24, 198, 51, 100, 192, 0, 2, 9)) + bytes((0, 192, 0, 2, 8))
    options = ACK + bytes((3, 4, 192, 0, 2, 1, 121, len(routes))) + routes
    reply = parse_message(answer(options), TRANSACTION, MAC)
    assert reply is not None
    assert reply.lease.gateway == "192.0.2.8"


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
