from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from netdump.image.init import network
from netdump.image.init.dhcp import Lease
from netdump.image.init.lease import HeldLease
from netdump.image.init.netlink import AddressState, LinkState, RouteState
from netdump.image.init.plan import Link, Plan, Route, Way
from tests.image.init.namespace import run_in_namespace

if TYPE_CHECKING:
    from pathlib import Path

MAC = "52:54:00:00:00:0{}"


class FakeNetlink:
    """Devices eth5 (1) and eth6 (2) under other names than in the healthy system; eth6 has no carrier."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.states = [
            LinkState(1, "eth5", MAC.format(1), MAC.format(1), 1, False, True, 1500, "", 0, 0, 0),
            LinkState(2, "eth6", MAC.format(2), MAC.format(2), 1, False, False, 1500, "", 0, 0, 0),
            LinkState(9, "lo", "", "", 772, False, False, 65536, "", 0, 0, 0),
        ]
        self.known: list[AddressState] = []
        self.refused: set[int] = set()

    def links(self) -> list[LinkState]:
        return self.states

    def addresses(self) -> list[AddressState]:
        return self.known

    def add_link(self, name: str, kind: str, *, lower: int = 0, vlan: int = 0) -> None:
        self.done.append(("add_link", name, kind, lower, vlan))
        number = len(self.states) + 10
        self.states.append(LinkState(number, name, MAC.format(1), "", 1, False, True, 1500, kind, lower, 0, vlan))

    def set_up(self, index: int, *, up: bool = True, mtu: int = 0) -> None:
        self.done.append(("set_up" if up else "set_down", index, mtu))
        if index in self.refused:
            raise OSError(5, "Input/output error")
        self._change(index, up=up)

    def set_master(self, index: int, master: int) -> None:
        self.done.append(("set_master", index, master))
        self._change(index, master=master)

    def _change(self, index: int, **fields: Any) -> None:
        self.states = [state._replace(**fields) if state.ifindex == index else state for state in self.states]

    def __getattr__(self, name: str) -> object:
        return lambda *words, **named: self.done.append((name, *words, *named.values()))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNetlink:
    fake = FakeNetlink()
    monkeypatch.setattr(network, "Netlink", lambda: fake)
    monkeypatch.setattr(network, "RESOLV_CONF", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(network, "IPV6_OFF", str(tmp_path / "{}"))
    for name in ("DEVICE_SECONDS", "CARRIER_SECONDS", "CARRIER_SECONDS_MIN", "ADVERTISEMENT_SECONDS"):
        monkeypatch.setattr(network, name, 0.0)
    monkeypatch.setattr(network, "STEP", 0.0)
    return fake


def reachable(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """What one look after the other finds; the last one stays."""
    left = list(answers)
    monkeypatch.setattr(network, "reach", lambda _: left.pop(0) if len(left) > 1 else left[0])


def leases(monkeypatch: pytest.MonkeyPatch, first: HeldLease | None) -> list[HeldLease | None]:
    """What is known of a lease, the newest last."""
    known: list[HeldLease | None] = [first]
    monkeypatch.setattr(network, "held_lease", lambda: known[-1])
    monkeypatch.setattr(network, "forget", lambda: known.append(None))
    monkeypatch.setattr(network, "remember", known.append)
    return known


ETH0, ETH1 = Link("eth0", "ether", MAC.format(1), mtu=1400), Link("eth1", "ether", MAC.format(2))
STATIC = Way(
    "eth0", "static", ("192.0.2.7/24",), (Route("default", "192.0.2.1"), Route("192.0.2.1/32", "")), ("192.0.2.5",)
)


def test_nothing_changes_while_a_collector_is_reachable(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    reachable(monkeypatch, "c:1")
    assert network.bring_up(Plan(links=(ETH0,), ways=(STATIC,))) == 0
    assert kernel.done == []
    assert said == ["c:1 is reachable"]


def test_a_static_way(kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], tmp_path: Path) -> None:
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(Plan(links=(ETH0,), ways=(STATIC,))) == 0
    assert kernel.done == [
        ("set_up", 1, 1400),
        ("set_up", 9, 0),
        ("set_up", 1, 1400),
        ("add_address", 1, "192.0.2.7", 24),
        ("add_route", 1, "192.0.2.1/32", ""),
        ("add_route", 1, "default", "192.0.2.1"),
    ]
    assert said == ["eth0 (static): 192.0.2.7/24; c:1 is reachable"]
    assert (tmp_path / "resolv.conf").read_text().startswith("nameserver 192.0.2.5\n")


def test_the_next_way_is_tried_and_the_earlier_one_forgotten(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    reachable(monkeypatch, "", "c:1")
    kernel.known = [AddressState(2, "198.51.100.7", 24, 0, True, False)]
    ways = (Way("eth1", "dhcp"), Way("absent", "dhcp"), STATIC)
    absent = Link("absent", "ether", MAC.format(7))
    assert network.bring_up(Plan(links=(ETH0, ETH1, absent), ways=ways)) == 0
    assert said[0] == "eth1 (dhcp): no carrier after 0 s; is the cable in?"
    assert "there is no device 52:54:00:00:00:07 (there is: eth5, eth6)" in said[1]
    assert ("remove_address", kernel.known[0]) in kernel.done


ONE_INTERFACE_SPEAKS_IPV6 = """
def speaks():
    return [open(network.IPV6_OFF.format(name)).read().strip() == "0" for name in ("v0", "v1", "lo")]
network._is = lambda state, link: state.name == link.name  # a cable of the kernel's own making is no device
network.reach = lambda plan: print(*speaks()) or ""
network.say = network.warn = str
plan = Plan(
    links=(Link("v0", "ether"), Link("v1", "ether")),
    ways=(Way("v0", "static", ("2001:db8::7/64",)), Way("v1", "static", ("2001:db8:1::7/64",))),
)
network.bring_up(plan)
print(*speaks())
open(network.IPV6_OFF.format("all"), "w").write("1")
network.bring_up(plan)
"""


def test_only_the_interface_of_a_way_speaks_ipv6() -> None:
    """What routers advertise on others leads elsewhere, and addresses that were taken away do not come back there."""
    lines = run_in_namespace(ONE_INTERFACE_SPEAKS_IPV6).splitlines()
    assert lines[:4] == ["True True True", "True False True", "False True True", "True True True"]
    assert set(lines[4:]) == {"False False False"}  # switched off by the administrator


def test_no_way_leads_anywhere(kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    reachable(monkeypatch, "")
    assert network.bring_up(Plan(links=(ETH0,), ways=(STATIC,))) == 1
    assert said == ["eth0 (static): 192.0.2.7/24; no collector answers there"]


@pytest.mark.parametrize(
    ("lease", "fallback", "expected"),
    [
        (Lease("192.0.2.8", 25, (Route("default", "192.0.2.1"),), ()), (), ("192.0.2.8", 25)),
        (Lease("192.0.2.8", 25, (), (), "192.0.2.1", 600, 300), (), ("192.0.2.8", 25)),
        (None, ("192.0.2.7/24",), ("192.0.2.7", 24)),
        (None, (), None),
    ],
)
def test_dhcp_and_the_address_it_had(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], *, lease: Lease | None,
    fallback: tuple[str, ...], expected: tuple[str, int] | None,
) -> None:  # fmt: skip
    reachable(monkeypatch, "", "c:1" if expected else "")
    monkeypatch.setattr(network, "obtain_lease", lambda *_: lease)
    kept = leases(monkeypatch, None)
    way = Way("eth0", "dhcp", fallback)
    assert network.bring_up(Plan(links=(ETH0,), ways=(way,))) == (0 if expected else 1)
    added = [words[2:] for words in kernel.done if words[0] == "add_address"]
    assert added == ([expected] if expected else [])
    assert any("no DHCP server answers" in line for line in said) == (lease is None)
    renewable = kept[-1]
    if lease is not None and lease.seconds is not None:
        assert renewable is not None
        assert renewable[:4] == ("eth5", MAC.format(1), "192.0.2.8", "192.0.2.1")
        assert renewable.ends_at - renewable.renew_at == pytest.approx(300)
    else:
        assert renewable is None


@pytest.mark.parametrize(("interface", "stays"), [("eth5", True), ("eth6", False)])
@pytest.mark.parametrize("method", ["dhcp", "static"])
def test_an_address_that_stays_is_renewed(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], method: str, interface: str, *, stays: bool
) -> None:
    """The network was looked at beside the client, and no DHCP server answered, because the whole site was away."""
    reachable(monkeypatch, "")
    monkeypatch.setattr(network, "obtain_lease", lambda *_: None)
    lease = HeldLease(interface, MAC.format(1), "192.0.2.8", "192.0.2.1", 300.0, 600.0)
    kept = leases(monkeypatch, lease)
    assert network.bring_up(Plan(links=(ETH0,), ways=(Way("eth0", method, ("192.0.2.7/24",)),))) == 1
    assert kept[-1] == (lease if stays else None)


def test_a_granted_address_is_the_one_that_it_sends_from() -> None:
    """At first no server answered, and it took the one it had; a server that comes back may grant another one."""
    out = run_in_namespace("""
from netdump.image.init.dhcp import Lease
network._is = lambda state, link: state.name == link.name
network.reach = lambda plan: ""
network.say = network.warn = str
network.remember = network.forget = network.held_lease = lambda *_: None
v0, v1 = link("v0"), link("v1")
netlink.set_up(v1.ifindex)
routes = (Route("default", "192.0.2.1"),)
plan = Plan(links=(Link("v0", "ether"),), ways=(Way("v0", "dhcp", ("192.0.2.7/24",), routes),))
for granted in (None, "192.0.2.8", "192.0.2.9", "192.0.2.9", "203.0.113.9"):
    network.obtain_lease = lambda *_: granted and Lease(granted, 24, routes, ())
    network.bring_up(plan)
    own = [each.address for each in netlink.addresses() if each.ifindex == v0.ifindex and each.is_routed]
    print(netlink.route_to("198.51.100.9").source, *own)
""")
    expected = ("192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.9", "203.0.113.9")
    assert out.splitlines() == [f"{address} {address}" for address in expected]


DEFAULT, LOCAL = Route("default", "192.0.2.1"), Route("198.51.100.9/32", "192.0.2.2")


@pytest.mark.parametrize(
    ("granted", "had", "expected"),
    [
        ((DEFAULT,), (Route("default", "192.0.2.3"),), (DEFAULT,)),
        ((), (DEFAULT,), (DEFAULT,)),  # a server that names no router
        ((DEFAULT,), (LOCAL,), (DEFAULT, LOCAL)),  # which an administrator has set, or another program
        ((Route("198.51.100.0/24", "192.0.2.9"),), (LOCAL,), (Route("198.51.100.0/24", "192.0.2.9"),)),
        ((Route("10.0.0.0/8", "192.0.2.9"),), (LOCAL,), (Route("10.0.0.0/8", "192.0.2.9"), LOCAL)),
        ((), (Route("default", "203.0.113.1"), Route("::/0", "fe80::1")), ()),  # it is in another network now
    ],
)
def test_routes_that_a_lease_lacks(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], *, granted: tuple[Route, ...],
    had: tuple[Route, ...], expected: tuple[Route, ...],
) -> None:  # fmt: skip
    reachable(monkeypatch, "", "c:1")
    monkeypatch.setattr(network, "obtain_lease", lambda *_: Lease("192.0.2.8", 25, granted, ()))
    way = Way("eth0", "dhcp", ("192.0.2.7/24",), had)
    assert network.bring_up(Plan(links=(ETH0,), ways=(way,))) == 0
    added = [words[2:] for words in kernel.done if words[0] == "add_route"]
    assert added == [tuple(route) for route in expected]


def test_an_address_that_the_kernel_refuses_leaves_the_others(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As one of IPv6, which this kernel may have been told not to speak."""

    def add(_: int, address: str, __: int) -> None:
        if ":" in address:
            raise OSError(13, "Permission denied")

    monkeypatch.setattr(kernel, "add_address", add, raising=False)
    both = STATIC._replace(addresses=("2001:db8::7/64", "192.0.2.7/24"))
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(Plan(links=(ETH0,), ways=(both,))) == 0
    refused = "eth0: the address 2001:db8::7/64 is refused: Permission denied"
    assert said == [refused, "eth0 (static): 192.0.2.7/24; c:1 is reachable"]
    said.clear()
    reachable(monkeypatch, "")
    only = both._replace(addresses=("2001:db8::7/64",))
    assert network.bring_up(Plan(links=(ETH0,), ways=(only,))) == 1
    assert said == [refused, "eth0 (static): no address is left"]


def test_a_route_that_the_kernel_refuses_leaves_the_others(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    reachable(monkeypatch, "", "c:1")
    added: list[str] = []

    def add(_: int, destination: str, via: str) -> None:
        if destination == "192.0.2.1/32":
            raise OSError(22, "Invalid argument")
        added.append(via)

    monkeypatch.setattr(kernel, "add_route", add, raising=False)
    assert network.bring_up(Plan(links=(ETH0,), ways=(STATIC,))) == 0
    assert added == ["192.0.2.1"]
    assert said[0] == "eth0: the route to 192.0.2.1/32 is refused: Invalid argument"


def test_a_card_that_has_another_address_after_each_boot(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As virtual functions that were given none. Of two nobody knows which is which."""
    plan = Plan(links=(Link("eth0", "ether", MAC.format(7)),), ways=(STATIC,))
    reachable(monkeypatch, "")
    assert network.bring_up(plan) == 1
    assert said[0].startswith("eth0 (static): there is no device 52:54:00:00:00:07 (there is: eth5, eth6)")
    del kernel.states[1]
    said.clear()
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(plan) == 0
    assert said[0] == "there is no device 52:54:00:00:00:07: eth5, the only one, is used in its place"
    assert ("add_address", 1, "192.0.2.7", 24) in kernel.done


BOND = Link("bond0", "bond", lower=("eth0", "eth1"), options=("mode=active-backup",))
VLAN = Link("bond0.5", "vlan", lower=("bond0",), vlan=5)
ON_VLAN = Way("bond0.5", "static", ("192.0.2.7/24",))


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where options of bonds are written, as {bond}-{name}."""
    monkeypatch.setattr(network, "BONDING", str(tmp_path / "{}-{}"))
    return tmp_path


def test_a_vlan_on_a_bond(kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], options: Path) -> None:
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(Plan(links=(ETH0, ETH1, BOND, VLAN), ways=(ON_VLAN,))) == 0
    assert (options / "bond0-mode").read_text() == "active-backup"
    names = [words[:3] for words in kernel.done]
    made = names.index(("add_link", "bond0", "bond"))
    assert made < names.index(("set_master", 1, 13)) < names.index(("set_master", 2, 13))
    assert ("add_link", "bond0.5", "vlan", 13, 5) in kernel.done
    assert ("add_address", 14, "192.0.2.7", 24) in kernel.done


def test_the_primary_port_of_a_bond_by_the_name_that_it_has_here(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], options: Path
) -> None:
    """Else the bond takes whichever comes up first: the slower one, or one that leads nowhere."""
    reachable(monkeypatch, "", "c:1")
    bond = BOND._replace(options=(*BOND.options, "primary=eth1"))
    assert network.bring_up(Plan(links=(ETH0, ETH1, bond), ways=(ON_VLAN._replace(link="bond0"),))) == 0
    assert (options / "bond0-primary").read_text() == "eth6"


def test_a_bond_that_is_there_already(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], options: Path
) -> None:
    """The driver makes bond0 by itself; and an earlier run may have put one port under it and not the other."""
    plan = Plan(links=(ETH0, ETH1, BOND), ways=(Way("bond0", "static", ("192.0.2.7/24",)),))
    kernel.states.append(LinkState(13, "bond0", MAC.format(1), "", 1, False, True, 1500, "bond", 0, 0, 0))
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(plan) == 0
    assert (options / "bond0-mode").read_text() == "active-backup"
    assert [words for words in kernel.done if words[0] == "set_master"] == [
        ("set_master", 1, 13), ("set_master", 2, 13)
    ]  # fmt: skip
    assert ("add_link", "bond0", "bond", 0, 0) not in kernel.done

    (options / "bond0-mode").unlink()
    kernel.done.clear()
    kernel.set_master(2, 0)
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(plan) == 0
    assert [words for words in kernel.done if words[0] == "set_master"][1:] == [("set_master", 2, 13)]
    assert not (options / "bond0-mode").exists()  # which could not be written while it has a port


def test_the_ports_of_a_bond_are_found_again(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], tmp_path: Path, options: Path
) -> None:
    """Of Linux before 5.6, which tells of all of them the address of the bond."""
    monkeypatch.setattr(network, "SYS", str(tmp_path))
    reachable(monkeypatch, "", "c:1")
    plan = Plan(links=(ETH0, ETH1, BOND), ways=(ON_VLAN._replace(link="bond0"),))
    assert network.bring_up(plan) == 0
    for number, name in ((1, "eth5"), (2, "eth6")):
        folder = tmp_path / "class/net" / name / "bonding_slave"
        folder.mkdir(parents=True)
        (folder / "perm_hwaddr").write_text(f"{MAC.format(number)}\n")
        kernel._change(number, mac=MAC.format(1), permanent_mac=MAC.format(1))
    kernel.done.clear()
    said.clear()
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(plan) == 0
    assert said == ["bond0 (static): 192.0.2.7/24; c:1 is reachable"]
    assert {words[1] for words in kernel.done if words[0] == "set_up"} == {1, 2, 13}


def test_a_bond_goes_without_a_port_that_is_missing(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], options: Path
) -> None:
    del kernel.states[0]
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(Plan(links=(ETH0, ETH1, BOND, VLAN), ways=(ON_VLAN,))) == 0
    assert said[0].startswith("bond0 goes without eth0: there is no device 52:54:00:00:00:01")
    kernel.states = kernel.states[1:]
    reachable(monkeypatch, "")
    assert network.bring_up(Plan(links=(ETH0, ETH1, BOND, VLAN), ways=(ON_VLAN,))) == 1
    assert said[-1] == "bond0.5 (static): none of its ports works"


def test_a_run_may_begin_with_another_way(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """After one that hung at the first."""
    ways = (Way("eth1", "dhcp"), STATIC)
    for first, expected in ((0, "eth1"), (1, "eth0"), (2, "eth1")):
        reachable(monkeypatch, "")
        said.clear()
        assert network.bring_up(Plan(links=(ETH0, ETH1), ways=ways), first) == 1
        assert said[0].startswith(expected)
        assert len(said) == 2


def test_an_mtu_that_a_driver_refuses_is_done_without(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As one of a virtual function, whose physical one is asked, or of a VLAN on it."""
    set_up = kernel.set_up

    def refuse(index: int, *, up: bool = True, mtu: int = 0) -> None:
        if mtu:
            raise OSError(22, "Invalid argument")
        set_up(index, up=up)

    monkeypatch.setattr(kernel, "set_up", refuse)
    reachable(monkeypatch, "", "c:1")
    assert network.bring_up(Plan(links=(ETH0,), ways=(STATIC,))) == 0
    assert set(said) == {
        "eth5 does not take an MTU of 1400: Invalid argument", "eth0 (static): 192.0.2.7/24; c:1 is reachable"
    }  # fmt: skip


def test_an_interface_that_does_not_come_up(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    kernel.refused.add(1)
    kernel.states[1] = kernel.states[1]._replace(carrier=True)
    reachable(monkeypatch, "", "c:1")
    ways = (STATIC, Way("eth1", "static", ("198.51.100.7/24",)))
    assert network.bring_up(Plan(links=(ETH0, ETH1), ways=ways)) == 0
    assert said == [
        "eth5 cannot be brought up: Input/output error",
        "eth0 (static): [Errno 5] Input/output error",
        "eth1 (static): 198.51.100.7/24; c:1 is reachable",
    ]


def test_an_advertised_address(kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    reachable(monkeypatch, "", "")
    plan = Plan(links=(ETH0,), ways=(Way("eth0", "auto"),))
    kernel.known = [AddressState(1, "2001:db8::7", 64, 0, False, True)]
    assert network.bring_up(plan) == 1
    kernel.known = [AddressState(1, "fe80::7", 64, 253, False, False)]
    assert network.bring_up(plan) == 1
    assert said == ["eth0 (auto): no router advertises a prefix"] * 2
    for address, scope in (("2001:db8::7", 0), ("fec0::7", 200)):
        kernel.known = [AddressState(1, address, 64, scope, False, False)]
        reachable(monkeypatch, "", "c:1")
        assert network.bring_up(plan) == 0


@pytest.mark.parametrize("gateway", ["fe80::9", "fe80::1", ""])
def test_routes_that_the_machine_had_where_advertised_ones_lead_nowhere(
    kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str], gateway: str
) -> None:
    def route_to(_: str) -> RouteState:
        if not gateway:
            raise OSError(101, "Network is unreachable")
        return RouteState(1, gateway, "")

    monkeypatch.setattr(kernel, "route_to", route_to, raising=False)
    kernel.known = [AddressState(1, "2001:db8::7", 64, 0, False, False)]
    had = (Route("::/0", "fe80::9"), Route("2001:db8:1::9/128", "fe80::1"))
    expected = [route for route in had if route.via != gateway]
    reachable(monkeypatch, "", "", "c:1")
    assert network.bring_up(Plan(links=(ETH0,), ways=(Way("eth0", "auto", (), had),))) == 0
    added = [words[2:] for words in kernel.done if words[0] == "add_route"]
    assert added == [(route.destination, route.via) for route in expected]
    assert said == ["eth0 (auto): has an advertised address; c:1 is reachable"]


def test_an_address_of_dhcpv6_stands_in(kernel: FakeNetlink, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """That an earlier run has set is no advertised one."""
    reachable(monkeypatch, "", "c:1")
    way = Way("eth0", "auto", ("2001:db8::7/128",), (Route("::/0", "fe80::1"),))
    kernel.known = [AddressState(1, "2001:db8::7", 128, 0, True, False)]
    assert network.bring_up(Plan(links=(ETH0,), ways=(way,))) == 0
    assert kernel.done[-2:] == [("add_address", 1, "2001:db8::7", 128), ("add_route", 1, "::/0", "fe80::1")]
    assert said == [
        "eth0: no router advertises a prefix; using the address it had",
        "eth0 (auto): 2001:db8::7/128; c:1 is reachable",
    ]


def test_reaching() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port, closed = server.getsockname()[1], nobody.getsockname()[1]
        collectors = (("nothing.invalid", 1), ("127.0.0.1", closed), ("127.0.0.1", port))
        assert network.reach(Plan(collectors=collectors)) == f"127.0.0.1:{port}"
        assert network.reach(Plan(collectors=collectors[:2])) == ""


def test_reaching_by_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert network.reach(Plan(collectors=(("::1", port),))) == f"[::1]:{port}"


def test_reaching_on_a_kernel_that_does_not_speak_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/hosts of the image has the address all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        unknown = (socket.AF_ASH, socket.SOCK_STREAM, 0, "", ("2001:db8::1", port))
        known = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
        for found, reached in (([unknown], ""), ([unknown, known], f"collector:{port}")):
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
            assert network.reach(Plan(collectors=(("collector", port),))) == reached


def test_on_a_real_cable() -> None:
    """DHCP over a real link, from a server that is as simple as one can be."""
    out = run_in_namespace("""
v0, v1 = link("v0"), link("v1")
for name in ("v0", "v1"):
    netlink.set_up(link(name).ifindex)
netlink.add_address(v1.ifindex, "192.0.2.1", 24)
for name in ("v0", "v1"):
    open(f"/proc/sys/net/ipv4/conf/{name}/accept_local", "w").write("1")
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"v1")
server.bind(("", 67))
def serve():
    for kind in (2, 5):
        asked = server.recv(2000)
        reply = bytearray(asked[:240]); reply[0] = 2; reply[16:20] = socket.inet_aton("192.0.2.7")
        options = bytes((53, 1, kind, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 255))
        server.sendto(bytes(reply) + options, ("255.255.255.255", 68))
threading.Thread(target=serve, daemon=True).start()
print(obtain_lease("v0", v0.mac, time.monotonic() + 20))
""")
    assert out.strip() == repr(Lease("192.0.2.7", 24, (Route("default", "192.0.2.1"),), (), "192.0.2.1"))
