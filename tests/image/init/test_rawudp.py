from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from netdump.image.init.dhcp import Lease
from netdump.image.init.plan import Route
from netdump.image.init.rawudp import udp_content
from tests.image.init.namespace import run_in_namespace


def datagram(
    content: bytes, *, port: int = 68, kind: int = 17, options: bytes = b"", part: int = 0, tail: bytes = b""
) -> bytes:
    """An IPv4 packet with a UDP datagram. part: flags and offset of a fragment. tail: what Ethernet fills up with."""
    udp = struct.pack("!HHHH", 67, port, 8 + len(content), 0) + content
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(udp), 0, part, 64, kind, 0) + bytes(8)
    return head + options + udp + tail


def test_what_is_for_a_port() -> None:
    assert udp_content(datagram(b"offer"), 68) == b"offer"
    assert udp_content(datagram(b"offer", options=bytes(8), part=0x4000, tail=bytes(20)), 68) == b"offer"
    assert udp_content(datagram(b""), 68) == b""


def test_what_is_not() -> None:
    for packet in (
        datagram(b"x", port=67), datagram(b"x", kind=6), datagram(b"x", part=0x2000), datagram(b"x", part=1),
        b"\x60" + datagram(b"x")[1:], datagram(b"x")[:27], b"",
    ):  # fmt: skip
        assert udp_content(packet, 68) == b""


@given(st.binary(max_size=80))
def test_no_packet_is_too_strange(packet: bytes) -> None:
    assert len(udp_content(b"\x45" + packet, 68)) <= len(packet)


def test_a_server_that_answers_to_the_address_that_it_offers() -> None:
    """Whatever it is asked for; no UDP socket of ours hears that."""
    out = run_in_namespace("""
from tests.image.init.test_rawudp import datagram
v0, v1 = link("v0"), link("v1")
netlink.set_up(v0.ifindex)
netlink.set_up(v1.ifindex)
server = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
server.bind(("v1", 0x0800))
def serve():
    for kind in (2, 5):
        asked = server.recv(2000)[28:]
        reply = bytearray(asked[:240]); reply[0] = 2; reply[16:20] = socket.inet_aton("192.0.2.7")
        options = bytes((53, 1, kind, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 255))
        packet = bytearray(datagram(bytes(reply) + options))
        packet[12:20] = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.7")
        server.sendto(bytes(packet), ("v1", 0x0800, 0, 0, bytes.fromhex(v0.mac.replace(":", ""))))
threading.Thread(target=serve, daemon=True).start()
print(obtain_lease("v0", v0.mac, time.monotonic() + 5))
""")
    assert out.strip() == repr(Lease("192.0.2.7", 24, (Route("default", "192.0.2.1"),), (), "192.0.2.1"))


def test_what_still_comes_for_the_dead_system_takes_no_room() -> None:
    out = run_in_namespace("""
from netdump.image.init.rawudp import RawUdp
from tests.image.init.test_rawudp import datagram
v0, v1 = link("v0"), link("v1")
netlink.set_up(v0.ifindex)
netlink.set_up(v1.ifindex)
others = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
packets = [datagram(b"x", **of) for of in ({"port": 53}, {"kind": 6}, {"part": 0x2000}, {"part": 1})]
with RawUdp("v0", 68) as ear:
    for packet in (*packets, b"", datagram(b"offer", options=bytes(8)), *packets, datagram(b"ack", part=0x4000)):
        others.sendto(packet, ("v1", 0x0800, 0, 0, bytes.fromhex(v0.mac.replace(":", ""))))
    ear.settimeout(5)
    print(ear.recv(999), ear.recv(999))
""")
    assert out == "b'offer' b'ack'\n"
