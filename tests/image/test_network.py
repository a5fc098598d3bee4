from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.client.address import Address
from netdump.errors import NetworkPlanError
from netdump.image.init.netlink import AddressState, LinkState, RouteState
from netdump.image.init.plan import Link, Route, Way
from netdump.image.network import Snapshot, plan_from, plan_given, read_servers, resolve, take_snapshot
from tests.image.init.namespace import run_in_namespace
from tests.image.sysfs import add_network_device

if TYPE_CHECKING:
    from pathlib import Path

MAC = "52:54:00:00:00:0{}"
WIREGUARD = LinkState(3, "wg0", "", "", 65534, True, True, 1420, "wireguard", 0, 0, 0)
COLLECTOR = "198.51.100.9"


def link(number: int, name: str, kind: str = "", **more: int) -> LinkState:
    mac = MAC.format(number)
    hardware, lower, master, vlan = (more.get(key, 0) for key in ("hardware", "lower", "master", "vlan"))
    return LinkState(number, name, mac, mac, hardware or 1, True, True, 1500, kind, lower, master, vlan)


def address(number: int, text: str, prefix: int, *, permanent: bool = True, scope: int = 0) -> AddressState:
    return AddressState(number, text, prefix, scope, permanent, False)


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    for name in ("eth0", "eth1"):
        add_network_device(tmp_path, name, ("virtio_net",))
    return tmp_path


def test_a_static_address_and_its_gateway(sys: Path) -> None:
    snapshot = Snapshot(
        (link(1, "eth0"),),
        (address(1, "192.0.2.7", 24), address(1, "fe80::1", 64, scope=253)),
        ((COLLECTOR, RouteState(1, "192.0.2.1", "192.0.2.7")),),
        ("192.0.2.53",),
        sys,
    )
    plan = plan_from(snapshot)
    assert plan.links == (Link("eth0", "ether", MAC.format(1)),)
    assert plan.ways == (Way("eth0", "static", ("192.0.2.7/24",), (Route("default", "192.0.2.1"),), ("192.0.2.53",)),)
    assert plan.devices == ("eth0",)


def test_the_way_to_the_collector_comes_first(sys: Path) -> None:
    snapshot = Snapshot(
        (link(1, "eth0"), link(2, "eth1")),
        (address(1, "192.0.2.7", 24), address(2, "198.51.100.7", 24)),
        ((COLLECTOR, RouteState(2, "", "198.51.100.7")),),
        sys=sys,
    )
    assert [way.link for way in plan_from(snapshot).ways] == ["eth1", "eth0"]


def test_a_leased_address_is_asked_for_again_and_kept_for_need(sys: Path) -> None:
    snapshot = Snapshot((link(1, "eth0"),), (address(1, "192.0.2.7", 24, permanent=False),), (), sys=sys)
    (way,) = plan_from(snapshot).ways
    assert (way.method, way.addresses) == ("dhcp", ("192.0.2.7/24",))


def test_an_advertised_address(sys: Path) -> None:
    for text, scope in (("2001:db8::7", 0), ("fec0::7", 200)):
        own = (address(1, "fe80::7", 64, scope=253), address(1, text, 64, scope=scope, permanent=False))
        snapshot = Snapshot((link(1, "eth0"),), own, (), sys=sys)
        assert [way.method for way in plan_from(snapshot).ways] == ["auto"]


WIDE = (("2001:db8:1::9", RouteState(1, "fe80::1", "")),)


def test_an_address_of_dhcpv6_is_kept_for_need(sys: Path) -> None:
    own = (address(1, "2001:db8::7", 128, permanent=False), address(1, "2001:db8::8", 64, permanent=False))
    (way,) = plan_from(Snapshot((link(1, "eth0"),), own, WIDE, sys=sys)).ways
    assert way == Way("eth0", "auto", ("2001:db8::7/128",), (Route("::/0", "fe80::1"),))


def test_routes_beside_an_advertised_address(sys: Path) -> None:
    """What a router said it says again; what somebody has set is kept for need."""
    own = (address(1, "2001:db8::7", 64, permanent=False),)
    for route, kept in (
        (RouteState(1, "fe80::1", "", advertised=True), ()),
        (RouteState(1, "fe80::2", "", by_default=False), ("::/0", "2001:db8:1::9/128")),
    ):
        (way,) = plan_from(Snapshot((link(1, "eth0"),), own, (("2001:db8:1::9", route),), sys=sys)).ways
        assert (way.method, way.addresses) == ("auto", ())
        assert way.routes == tuple(Route(destination, "fe80::2") for destination in kept)


def test_ipv6_beside_a_leased_address(sys: Path) -> None:
    """In ways of its own, where a collector is reached by it."""
    leased = address(1, "192.0.2.7", 24, permanent=False)
    for own, expected in (
        (address(1, "2001:db8::7", 64), ("static", ("2001:db8::7/64",))),
        (address(1, "2001:db8::7", 128, permanent=False), ("auto", ("2001:db8::7/128",))),
        (address(1, "2001:db8::7", 64, permanent=False), ("auto", ())),
    ):
        first, second = plan_from(Snapshot((link(1, "eth0"),), (own, leased), WIDE, sys=sys)).ways
        assert (first.method, first.addresses) == ("dhcp", ("192.0.2.7/24",))
        assert (second.method, second.addresses) == expected
        narrow = ((COLLECTOR, RouteState(1, "192.0.2.1", "")),)
        assert plan_from(Snapshot((link(1, "eth0"),), (own, leased), narrow, sys=sys)).ways == (
            Way("eth0", "dhcp", ("192.0.2.7/24",), (Route("default", "192.0.2.1"),)),
        )


def test_a_gateway_that_is_not_the_default_is_noted_as_such(sys: Path) -> None:
    """Else a lease, whose default route is another one, would be all that the capture kernel has."""
    leased = (address(1, "192.0.2.7", 24, permanent=False),)
    targets = (
        (COLLECTOR, RouteState(1, "192.0.2.2", "", by_default=False)),
        ("198.51.100.10", RouteState(1, "192.0.2.1", "")),
        ("198.51.100.11", RouteState(1, "192.0.2.2", "", by_default=False)),
    )
    (way,) = plan_from(Snapshot((link(1, "eth0"),), leased, targets, sys=sys)).ways
    assert way.routes == (
        Route("default", "192.0.2.2"),
        Route(f"{COLLECTOR}/32", "192.0.2.2"),
        Route("198.51.100.10/32", "192.0.2.1"),
        Route("198.51.100.11/32", "192.0.2.2"),
    )
    (way,) = plan_from(Snapshot((link(1, "eth0"),), leased, (targets[1], targets[1]), sys=sys)).ways
    assert way.routes == (Route("default", "192.0.2.1"),)


def test_as_long_as_no_name_can_be_looked_up_the_default_routes_count(sys: Path) -> None:
    """A whole data centre boots, and its name servers are not the first."""
    own = (address(1, "192.0.2.7", 24), address(2, "203.0.113.7", 24))
    defaults = (("192.0.0.8", RouteState(2, "203.0.113.1", "")),)
    bare = Snapshot((link(1, "eth0"), link(2, "eth1")), own, (), sys=sys, defaults=defaults)
    plan = plan_from(bare)
    assert plan.ways == (
        Way("eth1", "static", ("203.0.113.7/24",), (Route("default", "203.0.113.1"),)),
        Way("eth0", "static", ("192.0.2.7/24",)),
    )
    found = plan_from(replace(bare, targets=((COLLECTOR, RouteState(1, "192.0.2.1", "")),)))
    assert [way.routes for way in found.ways] == [(Route("default", "192.0.2.1"),), ()]
    tunnel = plan_from(replace(bare, defaults=(("192.0.0.8", RouteState(3, "", "")),), links=(*bare.links, WIREGUARD)))
    assert tunnel.beyond == (), "who knows whether it leads to them"


def test_the_default_routes_of_this_machine() -> None:
    out = run_in_namespace("""
from netdump.image.network import take_snapshot
v0 = link("v0")
netlink.set_up(v0.ifindex)
netlink.set_up(link("v1").ifindex)
netlink.add_address(v0.ifindex, "192.0.2.7", 24)
print(take_snapshot(["198.51.100.9"]).defaults)
netlink.add_route(v0.ifindex, "default", "192.0.2.1")
(target,), (default,) = take_snapshot(["192.0.2.9"]).targets, take_snapshot([]).defaults
print(target[1].by_default, default[0], default[1].gateway, default[1].by_default)
""")
    assert out.splitlines() == ["()", "False 192.0.0.8 192.0.2.1 True"]


def test_the_default_route_that_is_used_if_the_first_one_is_gone() -> None:
    """As a network manager sets them, by metrics; IPv6 has no route over the second interface."""
    out = run_in_namespace("""
import subprocess
from netdump.image import network
from netdump.image.network import plan_from, take_snapshot
network.has_hardware = lambda name, sys: True
network.RESOLV_CONFS = ()
for words in (
    "link set v0 up", "link set v1 up", "addr add 192.0.2.7/24 dev v0", "addr add 203.0.113.7/24 dev v1",
    "addr add 2001:db8:7::7/64 dev v0 nodad", "addr add 2001:db8:1::7/64 dev v1 nodad",
    "route add default via 192.0.2.1 metric 100", "route add default via 203.0.113.1 metric 101",
    "route add default via 2001:db8:7::1",
):
    subprocess.run(["ip", *words.split()], check=True)
for targets in (["198.51.100.9", "2001:db8:9::9"], ["2001:db8:9::9"], []):
    for way in plan_from(take_snapshot(targets)).ways:
        print(way.link, *(f"{route.destination}={route.via}" for route in way.routes))
""")
    both = ["v0 default=192.0.2.1 ::/0=2001:db8:7::1", "v1 default=203.0.113.1"]
    assert out.splitlines() == [*both, "v0 ::/0=2001:db8:7::1", "v1", *both]


def test_an_address_that_another_machine_takes_over_is_left_to_it() -> None:
    """As cluster managers set them: of the same subnet, or for one host. Who is dead must not claim them."""
    out = run_in_namespace("""
import subprocess
from netdump.image import network
from netdump.image.network import plan_from, take_snapshot
network.has_hardware = lambda name, sys: True
network.RESOLV_CONFS = ()
for words in (
    "link set v0 up", "link set v1 up", "addr add 192.0.2.7/24 dev v0",
    "addr add 192.0.2.100/24 dev v0", "addr add 192.0.2.101/32 dev v0",
    "addr add 2001:db8:7::7/64 dev v0 nodad", "addr add 2001:db8:7::100/128 dev v0 nodad preferred_lft 0",
    "route add default via 192.0.2.1", "route add default via 2001:db8:7::1",
):
    subprocess.run(["ip", *words.split()], check=True)
for targets in (["198.51.100.9", "2001:db8:9::9"], ["192.0.2.9"], []):
    for way in plan_from(take_snapshot(targets)).ways:
        print(way.method, *way.addresses)
subprocess.run(["ip", *"addr change 192.0.2.7/24 dev v0 valid_lft 600 preferred_lft 600".split()], check=True)
print(plan_from(take_snapshot(["198.51.100.9"])).ways[0])
""")
    *fixed, leased = out.splitlines()
    assert fixed == ["static 192.0.2.7/24 2001:db8:7::7/64"] * 3
    assert "method='dhcp', addresses=('192.0.2.7/24',)" in leased


def test_an_address_that_the_gateway_knows_is_kept(sys: Path) -> None:
    """What it sends from may be routed to this one, and be of another interface."""
    own = (address(1, "192.0.2.7", 24), address(1, "203.0.113.5", 32), address(1, "192.0.2.100", 24))
    for source, kept in (("203.0.113.5", own[:2]), ("203.0.113.9", own[:1]), ("192.0.2.100", own[2:])):
        targets = ((COLLECTOR, RouteState(1, "192.0.2.1", source)),)
        (way,) = plan_from(Snapshot((link(1, "eth0"),), own, targets, sys=sys)).ways
        assert way.addresses == tuple(f"{each.address}/{each.prefix}" for each in kept)
    (way,) = plan_from(Snapshot((link(1, "eth0"),), own, (), sys=sys)).ways
    assert len(way.addresses) == len(own), "nothing is known of any"


def test_gateways_of_both_families(sys: Path) -> None:
    snapshot = Snapshot(
        (link(1, "eth0"),),
        (address(1, "2001:db8::7", 64), address(1, "192.0.2.7", 24)),
        (
            (COLLECTOR, RouteState(1, "192.0.2.1", "")),
            ("198.51.100.10", RouteState(1, "192.0.2.2", "")),
            ("2001:db8:1::9", RouteState(1, "2001:db8::1", "")),
        ),
        sys=sys,
    )
    (way,) = plan_from(snapshot).ways
    assert way.addresses == ("192.0.2.7/24", "2001:db8::7/64")
    assert way.routes == (
        Route("default", "192.0.2.1"),
        Route("198.51.100.10/32", "192.0.2.2"),
        Route("::/0", "2001:db8::1"),
    )


@pytest.mark.parametrize(
    ("written", "options"),
    [
        (
            {"mode": "active-backup 1", "arp_interval": "200", "arp_ip_target": "192.0.2.1 192.0.2.2",
             "arp_validate": "all 3", "lacp_rate": "slow 0"},
            ("mode=active-backup", "arp_interval=200", "arp_ip_target=+192.0.2.1", "arp_ip_target=+192.0.2.2",
             "arp_validate=all"),
        ),
        (
            {"mode": "802.3ad 4", "miimon": "100", "arp_ip_target": "", "lacp_rate": "fast 1"},
            ("mode=802.3ad", "miimon=100", "lacp_rate=fast"),
        ),
    ],
)  # fmt: skip
def test_the_options_of_a_bond_as_its_driver_takes_them(
    sys: Path, written: dict[str, str], options: tuple[str, ...]
) -> None:
    """A bond that watches its ports by ARP, and is not told whom to ask, is down (Linux 6.1)."""
    bonding = sys / "class/net/bond0/bonding"
    bonding.mkdir(parents=True)
    for name, text in written.items():
        (bonding / name).write_text(f"{text}\n")
    links = (link(1, "eth0", master=3), link(3, "bond0", "bond"))
    plan = plan_from(Snapshot(links, (address(3, "192.0.2.7", 24),), (), sys=sys))
    assert plan.links[-1].options == options


def test_the_ports_of_a_bond_have_addresses_of_their_own(sys: Path) -> None:
    """Of which Linux 5.4 says nothing where others do: in use is that of the bond."""
    links = (link(1, "eth0", master=3), link(2, "eth1", master=3), link(3, "bond0", "bond"))
    shared = MAC.format(1)
    for state in links[:2]:
        folder = sys / "class/net" / state.name / "bonding_slave"
        folder.mkdir()
        (folder / "perm_hwaddr").write_text(f"{state.mac}\n")
    told = tuple(state._replace(mac=shared, permanent_mac=shared) for state in links)
    plan = plan_from(Snapshot(told, (address(3, "192.0.2.7", 24),), (), sys=sys))
    assert [each.mac for each in plan.links[:2]] == [MAC.format(1), MAC.format(2)]
    told = (told[0], told[1]._replace(permanent_mac=MAC.format(9)), told[2])  # somebody had given it another one
    plan = plan_from(Snapshot(told, (address(3, "192.0.2.7", 24),), (), sys=sys))
    assert [each.mac for each in plan.links[:2]] == [MAC.format(1), MAC.format(9)]


def test_a_vlan_on_a_bond(sys: Path) -> None:
    bonding = sys / "class/net/bond0/bonding"
    bonding.mkdir(parents=True)
    (bonding / "mode").write_text("active-backup 1\n")
    (bonding / "miimon").write_text("100\n")
    (bonding / "updelay").write_text("0\n")
    snapshot = Snapshot(
        (
            link(1, "eth0", master=3),
            link(2, "eth1", master=3),
            link(3, "bond0", "bond"),
            link(4, "bond0.5", "vlan", lower=3, vlan=5),
        ),
        (address(4, "192.0.2.7", 24),),
        (),
        sys=sys,
    )
    plan = plan_from(snapshot)
    assert plan.links == (
        Link("eth0", "ether", MAC.format(1)),
        Link("eth1", "ether", MAC.format(2)),
        Link("bond0", "bond", lower=("eth0", "eth1"), options=("mode=active-backup", "miimon=100")),
        Link("bond0.5", "vlan", lower=("bond0",), vlan=5),
    )
    assert [way.link for way in plan.ways] == ["bond0.5"]
    assert plan.devices == ("eth0", "eth1")


def test_a_bridge_is_left_out_and_its_port_gets_the_address(sys: Path) -> None:
    links = (link(1, "eth0", master=5), link(5, "br0", "bridge"), link(6, "tap0", "tun", master=5))
    snapshot = Snapshot(links, (address(5, "192.0.2.7", 24),), (), sys=sys)
    plan = plan_from(snapshot)
    assert [each.name for each in plan.links] == ["eth0"]
    assert [(way.link, way.addresses) for way in plan.ways] == [("eth0", ("192.0.2.7/24",))]
    both = (links[0]._replace(carrier=False), link(2, "eth1", master=5), *links[1:], link(7, "br0.5", "vlan", lower=5))
    plan = plan_from(replace(snapshot, links=both, addresses=(*snapshot.addresses, address(7, "198.51.100.7", 24))))
    assert [way.link for way in plan.ways] == ["eth1", "eth0", "br0.5"], "who has a carrier comes first"
    assert [each.lower for each in plan.links if each.name == "br0.5"] == [("eth1",)]


def test_a_way_that_cannot_be_made_again_is_told_of(sys: Path) -> None:
    snapshot = Snapshot(
        (link(1, "eth0"), link(2, "wg0", "wireguard")),
        (address(1, "192.0.2.7", 24), address(2, "198.51.100.7", 24)),
        ((COLLECTOR, RouteState(2, "", "198.51.100.7")),),
        sys=sys,
    )
    plan = plan_from(snapshot)
    assert ([way.link for way in plan.ways], plan.beyond) == (["eth0"], ("wg0",))
    both = (*snapshot.targets, ("2001:db8::9", RouteState(1, "", "")))
    assert plan_from(replace(snapshot, targets=both)).beyond == ()  # one of them is enough
    assert plan_from(replace(snapshot, targets=())).beyond == ()


def test_a_device_that_cannot_be_spoken_over_is_told_of(sys: Path) -> None:
    """It stays in the plan: with --save there is something to arm for."""
    infiniband = link(1, "eth0", hardware=32)
    (sys / "class/net/eth1/phy80211").mkdir()
    for state in (infiniband, link(2, "eth1")):
        own = (address(state.ifindex, "192.0.2.7", 24),)
        snapshot = Snapshot((state,), own, ((COLLECTOR, RouteState(state.ifindex, "192.0.2.1", "")),), sys=sys)
        plan = plan_from(snapshot)
        assert ([way.link for way in plan.ways], plan.beyond) == ([state.name], (state.name,))


def test_what_leads_nowhere_is_left_out(sys: Path) -> None:
    """Of InfiniBand's drivers alone a capture kernel may die, and a board controller's is behind USB."""
    for name in ("ib0", "usb0"):
        add_network_device(sys, name, ("mlx5_core",))
    eth0, ib0, usb0, eth1 = link(1, "eth0"), link(2, "ib0", hardware=32), link(3, "usb0"), link(4, "eth1")
    docker0 = link(5, "docker0", "bridge")
    near = (address(3, "169.254.0.2", 24), address(3, "fe80::2", 64, scope=253))
    own = (address(1, "192.0.2.7", 24), address(2, "10.0.0.7", 24), *near, address(4, "203.0.113.7", 24))
    route = RouteState(1, "192.0.2.1", "192.0.2.7")
    every = Snapshot((eth0, ib0, usb0, eth1, docker0), own, ((COLLECTOR, route),), sys=sys)
    assert plan_from(every).devices == ("eth0", "eth1")
    over = plan_from(replace(every, targets=((COLLECTOR, route._replace(ifindex=2)),)))
    assert (over.devices, over.beyond) == (("eth0", "eth1"), ("ib0",))
    direct = plan_from(replace(every, targets=(("169.254.0.1", RouteState(3, "", "169.254.0.2")),)))
    assert (direct.devices, direct.beyond) == (("usb0", "eth0", "eth1"), ())
    left = replace(every, addresses=(*own[1:4], address(5, "172.17.0.1", 16)), targets=())
    assert plan_from(left).devices == ("ib0", "usb0"), "there may be something to save"


def test_a_machine_without_a_network(sys: Path) -> None:
    loopback = link(1, "lo", hardware=772)
    snapshot = Snapshot((loopback, link(9, "docker0", "bridge")), (address(9, "172.17.0.1", 16),), (), sys=sys)
    with pytest.raises(NetworkPlanError, match="no network interface with an address and a device below it"):
        plan_from(snapshot)


def test_given_settings(sys: Path) -> None:
    snapshot = Snapshot((link(1, "eth0"), link(2, "eth1")), (), (), ("192.0.2.53",), sys)
    plan = plan_given(["eth1 192.0.2.7/24 2001:db8::7/64 via 192.0.2.1 dns 192.0.2.2", "eth0 dhcp vlan 7"], snapshot)
    assert plan.ways == (
        Way("eth1", "static", ("192.0.2.7/24", "2001:db8::7/64"), (Route("default", "192.0.2.1"),), ("192.0.2.2",)),
        Way("eth0.7", "dhcp", servers=("192.0.2.53",)),
    )
    assert plan.links[-1] == Link("eth0.7", "vlan", lower=("eth0",), vlan=7)
    assert plan.devices == ("eth1", "eth0")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("eth0 2001:db8::7/64 via fe80::1%eth0", "'fe80::1%eth0' is of IFACE in any case: leave out the %"),
        ("eth0 fe80::7%eth0/64", "'fe80::7%eth0/64' is of IFACE in any case"),
        ("eth0 auto dns fe80::53", "a name server at fe80::53 cannot be asked"),
        ("eth0", "write IFACE dhcp"),
        ("eth0 192.0.2.7", "is not ADDRESS/PREFIX"),
        ("eth0 192.0.2.7/99", "is not ADDRESS/PREFIX"),
        ("eth0 via 192.0.2.1", "has no address"),
        ("eth0 192.0.2.7/24 via here", "'here' is not an IP address"),
        ("eth0 dhcp vlan 5000", "a VLAN id is a number from 1 to 4094"),
        ("eth9 dhcp", r"there is no network device eth9 \(there is: eth0\)"),
    ],
)
def test_settings_that_cannot_be(sys: Path, setting: str, message: str) -> None:
    with pytest.raises(NetworkPlanError, match=message):
        plan_given([setting], Snapshot((link(1, "eth0"),), (), (), (), sys))


def test_name_servers_on_the_loopback_are_of_no_use(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    servers = ("fe80::1%eth0", "192.0.2.53", "nonsense", "2001:db8::53")
    real.write_text("# x\n" + "".join(f"nameserver {server}\n" for server in servers))
    assert read_servers([tmp_path / "absent", stub, real]) == ("192.0.2.53", "2001:db8::53")
    assert read_servers([stub]) == ()


def test_names_are_looked_up() -> None:
    found = resolve([Address("127.0.0.1", 7461), Address("nothing.invalid", 7461)])
    assert found == {"127.0.0.1": ["127.0.0.1"], "nothing.invalid": []}
    for impossible in ("a..invalid", f"{'a' * 64}.invalid"):
        assert resolve([Address(impossible, 7461)]) == {impossible: []}


def test_this_machine_can_be_asked() -> None:
    snapshot = take_snapshot(["127.0.0.1"])
    (loopback,) = (each for each in snapshot.links if each.name == "lo")
    assert snapshot.targets[0][1].ifindex == loopback.ifindex
