"""The network settings that the capture kernel gets: what this machine uses now, or what the administrator writes.

Owns the choice of interfaces and their order: first those over which this machine would send to its collectors, then
every other one that has an address and may lead to them. Bridges are left out (their ports are used, with the bridge's
address); VLANs and bonds are made again. Changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.errors import NetworkPlanError
from netdump.image.devices import has_hardware
from netdump.image.init.dhcp import SERVERS_MAX
from netdump.image.init.netlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, Netlink
from netdump.image.init.network import own_mac
from netdump.image.init.plan import Link, Route, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netdump.client.address import Address
    from netdump.image.init.netlink import AddressState, LinkState, RouteState

BOND_OPTIONS = (  # in the order in which the bonding driver takes them; mode first
    "mode", "miimon", "updelay", "downdelay", "arp_interval", "arp_ip_target", "arp_validate", "lacp_rate",
    "xmit_hash_policy", "primary", "primary_reselect", "fail_over_mac", "ad_select", "min_links",
)  # fmt: skip
LACP = "802.3ad"
LACP_RATE = "lacp_rate"  # which the driver tells in every mode, and takes in that one only
RESOLV_CONFS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
MTU_DEFAULT = 1500
NOBODY = ("192.0.0.8", "2001:db8::")  # a dummy (RFC 7600) and documentation: only a default route leads there
HOST_PREFIX = 128
SYNTAX = (
    "write IFACE dhcp, IFACE auto, or IFACE ADDRESS/PREFIX … [via GATEWAY] [dns SERVER] [vlan ID], "
    "as in --network 'eth0 192.0.2.7/24 via 192.0.2.1'"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The network of this machine as it is. targets: the collectors' literal addresses and how each is reached.

    defaults: likewise addresses that nobody has, which stand for all others. spares: how the former, or else the
    latter, would be reached over each interface that has an address.
    """

    links: tuple[LinkState, ...]
    addresses: tuple[AddressState, ...]
    targets: tuple[tuple[str, RouteState], ...]
    servers: tuple[str, ...] = ()
    sys: Path = Path("/sys")
    defaults: tuple[tuple[str, RouteState], ...] = ()
    spares: tuple[tuple[str, RouteState], ...] = ()

    @property
    def guides(self) -> tuple[tuple[str, RouteState], ...]:
        """What tells the way to the collectors: as long as their names cannot be looked up, the default routes."""
        return self.targets or self.defaults


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """links and ways for the init. devices: names of the interfaces whose drivers the image needs.

    beyond: names of those over which all collectors are reached now, where the capture kernel can use none of these.
    """

    links: tuple[Link, ...]
    ways: tuple[Way, ...]
    devices: tuple[str, ...] = field(default=())
    beyond: tuple[str, ...] = field(default=())


def take_snapshot(targets: Iterable[str], sys: Path = Path("/sys")) -> Snapshot:
    """Ask the kernel. targets: literal addresses. Raises NetworkPlanError."""
    try:
        netlink = Netlink()
        try:
            links, addresses = netlink.links(), netlink.addresses()
            routes = _find_routes(netlink, targets)
            defaults = _find_routes(netlink, NOBODY)
            wanted = [target for target, _ in routes] or NOBODY
            spares = _find_routes(netlink, wanted, dict.fromkeys(each.ifindex for each in addresses if each.is_routed))
        finally:
            netlink.close()
    except OSError as error:
        raise NetworkPlanError(f"the kernel does not tell its network settings: {error.strerror}") from error
    return Snapshot(tuple(links), tuple(addresses), routes, read_servers(), sys, defaults, spares)


def _find_routes(
    netlink: Netlink, targets: Iterable[str], over: Iterable[int] = (0,)
) -> tuple[tuple[str, RouteState], ...]:
    routes = []
    for target, index in product(targets, over):
        try:
            routes.append((target, netlink.route_to(target, index)))
        except OSError:
            continue  # not reachable now; another one may be
    return tuple(routes)


def resolve(collectors: Iterable[Address]) -> dict[str, list[str]]:
    """Look up the collectors' names now: the addresses stand in for a name server that may be away later.

    Name servers deal out addresses in turn: within a family they are sorted, so that the same answer is the same image.
    """
    found: dict[str, list[str]] = {}
    for collector in collectors:
        try:
            # bytes, because a str with an empty label or a long one is no OSError
            answers = socket.getaddrinfo(collector.host.encode("ascii"), collector.port, type=socket.SOCK_STREAM)
        except OSError:
            found[collector.host] = []
            continue
        families = list(dict.fromkeys(answer[0] for answer in answers))  # the system's preference
        unique = {(families.index(answer[0]), str(answer[4][0])) for answer in answers}
        found[collector.host] = [address for _, address in sorted(unique)]
    return found


def plan_from(snapshot: Snapshot) -> NetworkPlan:
    """Plan what this machine uses now. Raises NetworkPlanError if that is nothing.

    Without what leads nowhere, if anything is left: a driver may take more memory than there is, or hang.
    """
    by_index = {each.ifindex: each for each in snapshot.links if each.hardware != ARPHRD_LOOPBACK}
    used = [by_index[route.ifindex] for _, route in snapshot.guides if route.ifindex in by_index]
    others = [by_index[each.ifindex] for each in snapshot.addresses if each.is_routed and each.ifindex in by_index]
    states = list(dict.fromkeys(used + others))
    links, ways = _make(snapshot, [each for each in states if _leads_on(snapshot, each, each in used)])
    usable = any(state in ways for state in used)
    if not ways:
        links, ways = _make(snapshot, states)
    if not ways:
        raise NetworkPlanError(
            f"no network interface with an address and a device below it was found: bring one up, or {SYNTAX}"
        )
    devices = tuple(name for name, link in links.items() if link.kind == "ether")
    beyond = () if usable or not snapshot.targets else tuple(dict.fromkeys(state.name for state in used))
    every = dict.fromkeys(way for each in ways.values() for way in each)
    return NetworkPlan(tuple(links.values()), tuple(every), devices, beyond)


def _make(snapshot: Snapshot, states: Iterable[LinkState]) -> tuple[dict[str, Link], dict[LinkState, list[Way]]]:
    """The links for interfaces as far as they can be made again, by name, and the ways over each of them."""
    links: dict[str, Link] = {}
    ways: dict[LinkState, list[Way]] = {}
    for state in states:
        found = [way for name in _describe_all(snapshot, state, links) for way in _ways(snapshot, state, name)]
        if found:
            ways[state] = found
    return links, ways


def _leads_on(snapshot: Snapshot, state: LinkState, used: bool) -> bool:
    """Whether a capture kernel may reach anybody over an interface. used: whether it is reached over it now.

    Who has nothing but an address of one link (RFC 3927) is beside another computer, as a board controller over USB.
    """
    own = [each.address for each in snapshot.addresses if each.ifindex == state.ifindex]
    return not _is_mute(state, snapshot.sys) and (
        used or not all(ipaddress.ip_address(each).is_link_local for each in own)
    )


def plan_given(settings: Sequence[str], snapshot: Snapshot) -> NetworkPlan:
    """Plan what the administrator wrote: SYNTAX. Raises NetworkPlanError."""
    links: dict[str, Link] = {}
    ways = [_parse_way(setting, snapshot, links) for setting in settings]
    devices = tuple(name for name, link in links.items() if link.kind == "ether")
    return NetworkPlan(tuple(links.values()), tuple(ways), devices)


def is_link_local(address: str) -> bool:
    """Whether a literal address, with a zone or without, is an IPv6 one of a single link (fe80::/10)."""
    return ":" in address and ipaddress.IPv6Address(address).is_link_local


def read_servers(paths: Sequence[Path] = RESOLV_CONFS) -> tuple[str, ...]:
    """The name servers in use, without those on this machine's own loopback, which will not run there.

    Nor those of one link (`fe80::1%eth0`): the capture kernel may call its interface otherwise.
    """
    for path in paths:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        words = [line.split() for line in lines if line.startswith("nameserver")]
        servers = [word[1] for word in words if len(word) > 1 and _is_remote(word[1])]
        if servers:
            return tuple(servers[:SERVERS_MAX])
    return ()


def _is_remote(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return not address.is_loopback and "%" not in text


def _describe_all(snapshot: Snapshot, state: LinkState, links: dict[str, Link]) -> list[str]:
    """As _describe; of a bridge every port that can be had in its place, those with a carrier first."""
    if state.kind != "bridge":
        return [name for name in (_describe(snapshot, state, links),) if name]
    ports = [each for each in snapshot.links if each.master == state.ifindex]
    ports.sort(key=lambda port: not port.carrier)
    return [name for each in ports if (name := _describe(snapshot, each, links))]


def _describe(snapshot: Snapshot, state: LinkState, links: dict[str, Link]) -> str:
    """Add a link, with all that it stands on, to links. Returns the name to configure, "" if it has no device."""
    mtu = state.mtu if state.mtu != MTU_DEFAULT else 0
    if state.kind == "bridge":
        return next(iter(_describe_all(snapshot, state, links)), "")
    if state.kind == "vlan":
        lower = next((each for each in snapshot.links if each.ifindex == state.lower), None)
        below = _describe(snapshot, lower, links) if lower else ""
        if not below:
            return ""
        links[state.name] = Link(state.name, "vlan", lower=(below,), vlan=state.vlan, mtu=mtu)
    elif state.kind == "bond":
        ports = [each for each in snapshot.links if each.master == state.ifindex]
        names = [name for each in ports if (name := _describe(snapshot, each, links))]
        if not names:
            return ""
        options = _bond_options(snapshot.sys, state.name)
        links[state.name] = Link(state.name, "bond", lower=tuple(names), options=options, mtu=mtu)
    elif has_hardware(state.name, snapshot.sys):
        links[state.name] = Link(state.name, "ether", mac=own_mac(state, str(snapshot.sys)), mtu=mtu)
    else:
        return ""
    return state.name


def _is_mute(state: LinkState, sys: Path) -> bool:
    """Whether a capture kernel has an interface but cannot speak over it: InfiniBand, wireless."""
    return state.hardware != ARPHRD_ETHER or (sys / "class/net" / state.name / "phy80211").exists()


def _bond_options(sys: Path, name: str) -> tuple[str, ...]:
    found = []
    for option in BOND_OPTIONS:
        try:
            words = (sys / "class/net" / name / "bonding" / option).read_text().split()
        except OSError:
            continue
        if not words or words[0] in {"0", "none", "any"}:
            continue
        if option == LACP_RATE and f"mode={LACP}" not in found:
            continue
        if option == "arp_ip_target":  # all of them, one by one
            found += [f"{option}=+{word}" for word in words]
        else:
            found.append(f"{option}={words[0]}")
    return tuple(found)


def _ways(snapshot: Snapshot, state: LinkState, name: str) -> list[Way]:
    """How this interface got its addresses, as ways: leased ones, those that were set, advertised ones.

    Who leases IPv4 gets IPv6 in further ways, where a collector is reached by it.
    """
    own = [each for each in snapshot.addresses if each.ifindex == state.ifindex and each.is_routed]
    v4 = [each for each in own if ":" not in each.address]
    v6 = [each for each in own if ":" in each.address]
    reached = [target for target, route in snapshot.guides if route.ifindex == state.ifindex]
    routes = tuple(dict.fromkeys(_routes(snapshot, state.ifindex)))
    ways = []
    ours = _senders(snapshot, state.ifindex, v4)
    if not all(each.permanent for each in v4):
        ways.append(Way(name, "dhcp", _texts(ours), routes, snapshot.servers))
        if not any(":" in target for target in reached):
            return ways
        ours = []
    if fixed := ours + _senders(snapshot, state.ifindex, [each for each in v6 if each.permanent]):
        ways.append(Way(name, "static", _texts(fixed), routes, snapshot.servers))
    passing = [each for each in v6 if not each.permanent]
    if passing and (reached or not fixed):
        # Of DHCPv6, which gives no prefix: the init cannot ask for them, and uses them as they were.
        leased = [each for each in passing if each.prefix == HOST_PREFIX]
        # What routers advertise they advertise again, unless they leave it to DHCPv6.
        kept = routes if leased else _routes(snapshot, state.ifindex, advertised=False)
        wide = tuple(route for route in kept if ":" in route.destination)
        ways.append(Way(name, "auto", _texts(leased), wide, snapshot.servers))
    return ways


def _senders(snapshot: Snapshot, index: int, addresses: list[AddressState]) -> list[AddressState]:
    """Of the addresses of an interface, all of one family, those that this machine sends from; all if none is known.

    Each gateway gets one that it has a route to. The others may be of services that another machine takes over as soon
    as this one is dead: both would claim them.
    """
    told = (*snapshot.guides, *snapshot.spares, *snapshot.defaults)
    routes = [route for _, route in told if route.ifindex == index]
    sources = {route.source for route in routes}
    kept = [each for each in addresses if each.address in sources]
    for gateway in dict.fromkeys(route.gateway for route in routes if route.gateway):
        if not any(_is_beside(gateway, each) for each in kept):
            kept += [each for each in addresses if _is_beside(gateway, each)][:1]
    return [each for each in addresses if each in kept] or addresses


def _is_beside(gateway: str, own: AddressState) -> bool:
    return ipaddress.ip_address(gateway) in ipaddress.ip_network(f"{own.address}/{own.prefix}", strict=False)


def _texts(addresses: Iterable[AddressState]) -> tuple[str, ...]:
    return tuple(f"{each.address}/{each.prefix}" for each in addresses)


def _routes(snapshot: Snapshot, index: int, *, advertised: bool = True) -> list[Route]:
    """The routes to the collectors; the first gateway of each family is the default too.

    Who is reached by the default route now, and by that gateway, needs no route of his own. Who is not reached over
    this interface now has the route that is used if the others are gone. advertised: whether those by routers count.
    """
    found: list[Route] = []
    gateways: dict[bool, str] = {}
    over: dict[str, RouteState] = {}
    for target, route in (*snapshot.guides, *snapshot.spares):
        if route.ifindex == index and route.gateway and (advertised or not route.advertised):
            over.setdefault(target, route)
    for target, route in over.items():
        wide = ":" in target
        if wide not in gateways:
            gateways[wide] = route.gateway
            found.append(Route("::/0" if wide else "default", route.gateway))
        if not route.by_default or route.gateway != gateways[wide]:
            found.append(Route(f"{target}/{128 if wide else 32}", route.gateway))
    return found


def _parse_way(setting: str, snapshot: Snapshot, links: dict[str, Link]) -> Way:
    words = setting.split()
    if len(words) < 2:
        raise NetworkPlanError(f"--network {setting!r}: {SYNTAX}")
    name, rest = words[0], words[1:]
    addresses: list[str] = []
    routes: list[Route] = []
    servers: list[str] = []
    vlan = 0
    method = "static"
    while rest:
        word = rest.pop(0)
        if word in {"dhcp", "auto"}:
            method = word
        elif word in {"via", "dns", "vlan"} and rest:
            value = rest.pop(0)
            if word == "vlan":
                vlan = _vlan(value, setting)
            elif word == "via":
                gateway = _literal(value, setting)
                routes.append(Route("::/0" if ":" in gateway else "default", gateway))
            else:
                servers.append(_server(value, setting))
        else:
            addresses.append(_interface_address(word, setting))
    if method == "static" and not addresses:
        raise NetworkPlanError(f"--network {setting!r} has no address: {SYNTAX}")
    target = _given_link(name, vlan, snapshot, links)
    return Way(target, method, tuple(addresses), tuple(routes), tuple(servers) or snapshot.servers)


def _given_link(name: str, vlan: int, snapshot: Snapshot, links: dict[str, Link]) -> str:
    state = next((each for each in snapshot.links if each.name == name), None)
    below = _describe(snapshot, state, links) if state else ""
    if not below:
        devices = ", ".join(each.name for each in snapshot.links if has_hardware(each.name, snapshot.sys))
        raise NetworkPlanError(f"there is no network device {name} (there is: {devices or 'none'})")
    if not vlan:
        return below
    upper = f"{below}.{vlan}"
    links[upper] = Link(upper, "vlan", lower=(below,), vlan=vlan)
    return upper


def _vlan(text: str, setting: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 4094:
        raise NetworkPlanError(f"--network {setting!r}: a VLAN id is a number from 1 to 4094, not {text!r}")
    return int(text)


def _server(text: str, setting: str) -> str:
    literal = _literal(text, setting)
    if is_link_local(literal):
        raise NetworkPlanError(f"--network {setting!r}: a name server at {text} cannot be asked: name another address")
    return literal


def _literal(text: str, setting: str) -> str:
    try:
        return str(ipaddress.ip_address(_without_zone(text, setting)))
    except ValueError:
        raise NetworkPlanError(f"--network {setting!r}: {text!r} is not an IP address: {SYNTAX}") from None


def _interface_address(text: str, setting: str) -> str:
    try:
        if "/" in text:
            return str(ipaddress.ip_interface(_without_zone(text, setting)))
    except ValueError:
        pass  # refused below
    raise NetworkPlanError(f"--network {setting!r}: {text!r} is not ADDRESS/PREFIX: {SYNTAX}")


def _without_zone(text: str, setting: str) -> str:
    if "%" in text:
        raise NetworkPlanError(f"--network {setting!r}: {text!r} is of IFACE in any case: leave out the % and its zone")
    return text
