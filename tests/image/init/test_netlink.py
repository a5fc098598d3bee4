from __future__ import annotations

import pytest

from netdump.image.init.netlink import Netlink, pack_address
from tests.image.init.namespace import run_in_namespace


def test_reading_this_machine() -> None:
    netlink = Netlink()
    (loopback,) = (state for state in netlink.links() if state.name == "lo")
    assert (loopback.hardware, loopback.kind, loopback.mac) == (772, "", "00:00:00:00:00:00")
    (address,) = (each for each in netlink.addresses() if each.address == "127.0.0.1")
    assert (address.ifindex, address.prefix, address.permanent) == (loopback.ifindex, 8, True)
    assert netlink.route_to("127.0.0.1").ifindex == loopback.ifindex
    netlink.close()


def test_addresses_are_literal() -> None:
    assert pack_address("192.0.2.1")[1] == bytes((192, 0, 2, 1))
    with pytest.raises(OSError, match="illegal IP address"):
        pack_address("collector")


def test_changing_links_addresses_and_routes() -> None:
    out = run_in_namespace("""
v0, v1 = link("v0"), link("v1")
print(v0.kind, v0.up, v0.carrier, v0.mtu)
netlink.set_up(v0.ifindex, mtu=1400); netlink.set_up(v1.ifindex)
v0 = link("v0"); print(v0.up, v0.carrier, v0.mtu)
netlink.add_address(v0.ifindex, "192.0.2.7", 24)
netlink.add_address(v0.ifindex, "2001:db8::7", 64)
found = {each.address: each for each in netlink.addresses() if each.ifindex == v0.ifindex}
print(found["192.0.2.7"].prefix, found["2001:db8::7"].prefix, found["2001:db8::7"].tentative)
netlink.add_route(v0.ifindex, "default", "192.0.2.1")
netlink.add_route(v0.ifindex, "198.51.100.0/24", "203.0.113.1")  # a gateway beyond the prefix
netlink.add_route(v0.ifindex, "203.0.113.0/24", "")
netlink.add_route(v0.ifindex, "::/0", "2001:db8::1")
netlink.add_route(v0.ifindex, "100.64.0.0/10", "fe80::1")
for to in ("8.8.8.8", "100.64.0.9", "198.51.100.9", "203.0.113.9", "2001:db8:9::1"):
    route = netlink.route_to(to)
    print(to, route.gateway or "direct", route.by_default)
netlink.remove_address(found["192.0.2.7"])
print("192.0.2.7" in {each.address for each in netlink.addresses()})
try:
    netlink.set_up(999)
except OSError as error:
    print(error.strerror)
""")
    assert out.splitlines() == [
        "veth False False 1500",
        "True True 1400",
        "24 64 False",
        "8.8.8.8 192.0.2.1 True",
        "100.64.0.9 fe80::1 False",
        "198.51.100.9 203.0.113.1 False",
        "203.0.113.9 direct False",
        "2001:db8:9::1 2001:db8::1 True",
        "False",
        "No such device",
    ]


def test_who_has_said_a_route() -> None:
    out = run_in_namespace("""
import subprocess
netlink.set_up(link("v0").ifindex)
for words in ("2001:db8:1::/48 proto ra", "2001:db8:2::/48 proto static"):
    subprocess.run(["ip", "route", "add", *words.split(), "via", "fe80::1", "dev", "v0"], check=True)
for to in ("2001:db8:1::9", "2001:db8:2::9"):
    route = netlink.route_to(to, link("v0").ifindex)
    print(route.gateway, route.by_default, route.advertised)
""")
    assert out.splitlines() == ["fe80::1 False True", "fe80::1 False False"]
