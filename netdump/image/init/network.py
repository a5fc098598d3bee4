"""The stage that reaches a collector: interfaces up, addresses, routes, and a first connection.

Runs as a child of process 1, again and again until the deadline, and beside the client when no bytes move: it changes
nothing as long as a collector can be reached. Each way of the plan is tried in turn, first those that the healthy
system used; what a way needs (the interface there, a carrier, a lease) has its own time limit. All interfaces are
brought up at the start, so that many without a cable cost the time of one.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from netdump.image.init.console import say, warn
from netdump.image.init.dhcp import BROADCAST, obtain_lease
from netdump.image.init.lease import HeldLease, forget, held_lease, remember
from netdump.image.init.netlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, LinkState, Netlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.init.dhcp import Lease
    from netdump.image.init.netlink import AddressState
    from netdump.image.init.plan import Link, Plan, Route, Way

DEVICE_SECONDS = 20.0  # a device may need that long after its module was loaded
CARRIER_SECONDS = 45.0  # from the start; switches that run spanning tree forward after 30
CARRIER_SECONDS_MIN = 10.0  # of what is made late: a bond, a VLAN
LEASE_SECONDS = 45.0
ADVERTISEMENT_SECONDS = 15.0
REACH_SECONDS = 5.0
STEP = 0.1  # seconds between two looks at an interface
RESOLV_CONF = "/etc/resolv.conf"
SYS = "/sys"
BONDING = f"{SYS}/class/net/{{}}/bonding/{{}}"
PRIMARY = "primary"  # the option of a bond that names a port
NOBODY = "2001:db8::"  # documentation (RFC 3849): only a default route leads there
IPV6_OFF = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"


class WayError(Exception):
    """This way does not work now; the message says why."""


def bring_up(plan: Plan, first: int = 0) -> int:
    """Make a collector reachable. Returns 0 when one is, 1 when none is by any way. first: of the ways to try."""
    if reached := reach(plan):
        say(f"{reached} is reachable")
        return 0
    network = _Network(Netlink(), plan)
    turn = first % max(1, len(plan.ways))
    for way in plan.ways[turn:] + plan.ways[:turn]:
        try:
            settings = network.follow(way)
        except (WayError, OSError) as error:
            warn(f"{way.link} ({way.method}): {error}")
            continue
        reached = reach(plan)
        if not reached and network.add_routes(way):
            reached = reach(plan)
        if reached:
            say(f"{way.link} ({way.method}): {settings}; {reached} is reachable")
            return 0
        warn(f"{way.link} ({way.method}): {settings}; no collector answers there")
    network.keep_to(None)  # a distribution's own kdump may come next
    return 1


def reach(plan: Plan) -> str:
    """The first collector that takes a TCP connection, as HOST:PORT; "" if none does."""
    for host, port in plan.collectors:
        try:
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        for family, kind, _, _, address in found:
            try:
                with socket.socket(family, kind | socket.SOCK_CLOEXEC) as attempt:
                    attempt.settimeout(REACH_SECONDS)
                    attempt.connect(address)
            except OSError:  # also if this kernel does not speak IPv6
                continue
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def own_mac(state: LinkState, sys: str) -> str:
    """Of a device. sys: where /sys lies.

    Before 5.6 the kernel tells over netlink only that in use, which all ports of a bond may share.
    """
    if state.permanent_mac != state.mac:
        return state.permanent_mac
    try:
        with open(f"{sys}/class/net/{state.name}/bonding_slave/perm_hwaddr", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return state.permanent_mac


def held(interface: str, mac: str, lease: Lease, now: float) -> HeldLease | None:
    """A lease that was granted now (of time.monotonic), to be remembered; None if it lasts for ever."""
    if lease.seconds is None:
        return None
    server = lease.server or BROADCAST
    return HeldLease(interface, mac, lease.address, server, now + lease.half_time, now + lease.seconds)


class _Network:
    """The interfaces of this machine on their way to what the plan says of them."""

    def __init__(self, netlink: Netlink, plan: Plan) -> None:
        """Bring up what can be, so that carriers come while others are waited for."""
        self._netlink = netlink
        self._index = 0  # of the way that was followed last
        self._links = {link.name: link for link in plan.links}
        self._started = time.monotonic()
        for state in netlink.links():
            link = next((link for link in plan.links if _is(state, link)), None)
            if (link or state.hardware == ARPHRD_LOOPBACK) and not state.up:
                try:
                    self._set_up(state, link.mtu if link else 0)
                except OSError as error:
                    say(f"{state.name} cannot be brought up: {error.strerror}")

    def follow(self, way: Way) -> str:
        """Set up one way. Returns what was set, for people. Raises WayError, OSError."""
        netlink = self._netlink
        state = self._carrier(self._bring_up(way.link).ifindex)
        self._index = state.ifindex
        self.keep_to(self._index)
        _forget_others(netlink, state.ifindex)
        if (known := held_lease()) and known.interface != state.name:
            forget()  # its address was taken away; one that stays is renewed, whether a server answers now or not
        addresses, routes, servers = way.addresses, way.routes, way.servers
        if way.method == "auto":
            if _is_advertised(netlink, state):
                _write_servers(servers)
                return "has an advertised address"
            if not addresses:
                raise WayError("no router advertises a prefix")
            warn(f"{way.link}: no router advertises a prefix; using the address it had")
        if way.method == "dhcp":
            lease = obtain_lease(state.name, state.mac, time.monotonic() + LEASE_SECONDS)
            if lease is not None:
                _forget_earlier(netlink, state.ifindex, lease.address)
                addresses = (f"{lease.address}/{lease.prefix}",)
                routes = (*lease.routes, *_missing(lease, way.routes))
                servers = lease.servers or servers
                if ending := held(state.name, state.mac, lease, time.monotonic()):
                    remember(ending)
                else:
                    forget()
            elif not addresses:
                raise WayError("no DHCP server answers")
            else:
                warn(f"{way.link}: no DHCP server answers; using the address it had")
        taken = self._address(way.link, state.ifindex, addresses)
        self._route(way.link, state.ifindex, routes)
        _write_servers(servers)
        return ", ".join(taken)

    def add_routes(self, way: Way) -> bool:
        """Have what the machine had, where advertised routes lead to no collector. Returns whether that differs."""
        if way.method != "auto":
            return False
        others = tuple(route for route in way.routes if self._gateway(route.destination) != route.via)
        if not others:
            return False
        self._route(way.link, self._index, others)
        return True

    def _gateway(self, destination: str) -> str:
        """Of what is reached by IPv6 over the way that was followed; "" for none."""
        try:
            return self._netlink.route_to(NOBODY if destination == "::/0" else destination.partition("/")[0]).gateway
        except OSError:
            return ""

    def _address(self, link: str, index: int, addresses: tuple[str, ...]) -> list[str]:
        """Set those addresses that the kernel takes: it may not speak IPv6. Raises WayError if it takes none."""
        taken = []
        for address in addresses:
            literal, _, prefix = address.partition("/")
            try:
                self._netlink.add_address(index, literal, int(prefix))
                taken.append(address)
            except OSError as error:
                warn(f"{link}: the address {address} is refused: {error.strerror}")
        if not taken:
            raise WayError("no address is left")
        return taken

    def _route(self, link: str, index: int, routes: tuple[Route, ...]) -> None:
        for route in sorted(routes, key=lambda route: bool(route.via)):  # those to gateways first
            try:
                self._netlink.add_route(index, route.destination, route.via)
            except OSError as error:
                warn(f"{link}: the route to {route.destination} is refused: {error.strerror}")

    def keep_to(self, index: int | None) -> None:
        """Have IPv6 on one interface, or on all.

        What routers advertise elsewhere leads away from the collector, and their routes stay where addresses are taken
        away. Where IPv6 comes back, the kernel asks routers anew; for an address that was taken it would not.
        """
        try:
            with open(IPV6_OFF.format("all"), encoding="ascii") as file:
                if file.read(1) != "0":
                    return  # as the command line wants it
        except OSError:
            return  # nor does this kernel speak it
        for state in self._netlink.links():
            if state.hardware != ARPHRD_LOOPBACK:
                with suppress(OSError), open(IPV6_OFF.format(state.name), "w", encoding="ascii") as file:
                    file.write("0" if index in {None, state.ifindex} else "1")

    def _bring_up(self, name: str) -> LinkState:
        """Bring a link of the plan up, with all that it stands on. Raises WayError, OSError."""
        link = self._links[name]
        match link.kind:
            case "ether":
                state = self._device(link)
            case "vlan":
                lower = self._bring_up(link.lower[0])
                state = _find(self._netlink, name) or self._make_vlan(link, lower)
            case _:
                state = self._bond(link)
        self._set_up(state, link.mtu)
        return state

    def _set_up(self, state: LinkState, mtu: int) -> None:
        """Take an interface up, with its usual size of packets where the driver takes no other one now."""
        try:
            self._netlink.set_up(state.ifindex, mtu=mtu)
        except OSError as error:
            if not mtu:
                raise
            self._netlink.set_up(state.ifindex)
            warn(f"{state.name} does not take an MTU of {mtu}: {error.strerror}")

    def _device(self, link: Link) -> LinkState:
        """Wait for a device. Its name may be another one here: the hardware address counts."""
        while True:
            states = self._netlink.links()
            for state in states:
                if _is(state, link):
                    return state
            if time.monotonic() > self._started + DEVICE_SECONDS:
                if only := self._only_one(states):
                    warn(f"there is no device {link.mac or link.name}: {only.name}, the only one, is used in its place")
                    return only
                names = ", ".join(state.name for state in states if state.hardware != ARPHRD_LOOPBACK)
                raise WayError(
                    f"there is no device {link.mac or link.name} (there is: {names or 'none'}); its driver may be "
                    "missing in the image"
                )
            time.sleep(STEP)

    def _only_one(self, states: list[LinkState]) -> LinkState | None:
        """The one network card of a machine whose plan has one too: it may have another address after each boot."""
        cards = [state for state in states if state.hardware == ARPHRD_ETHER and not state.kind]
        planned = [link for link in self._links.values() if link.kind == "ether"]
        return cards[0] if len(cards) == len(planned) == 1 else None

    def _make_vlan(self, link: Link, lower: LinkState) -> LinkState:
        self._netlink.add_link(link.name, "vlan", lower=lower.ifindex, vlan=link.vlan)
        return self._made(link)

    def _bond(self, link: Link) -> LinkState:
        """A bond with those of its ports that there are.

        It may be there already: the driver makes bond0 by itself, and an earlier run may have ended half-way.
        """
        netlink, found = self._netlink, dict[str, LinkState]()
        for name in link.lower:
            try:
                found[name] = self._bring_up(name)
            except (WayError, OSError) as error:
                warn(f"{link.name} goes without {name}: {error}")
        if not found:
            raise WayError("none of its ports works")
        ports = list(found.values())
        state = _find(netlink, link.name)
        if state is None:
            netlink.add_link(link.name, "bond")
            state = self._made(link)
        if not any(port.master == state.ifindex for port in ports):
            netlink.set_up(state.ifindex, up=False)  # its mode can be set only then
            _set_options(link, {name: port.name for name, port in found.items()})
        for port in ports:
            if port.master != state.ifindex:
                netlink.set_up(port.ifindex, up=False)
                netlink.set_master(port.ifindex, state.ifindex)
                netlink.set_up(port.ifindex)
        return state

    def _made(self, link: Link) -> LinkState:
        state = _find(self._netlink, link.name)
        if state is None:
            raise WayError(f"cannot make the {link.kind}")
        return state

    def _carrier(self, index: int) -> LinkState:
        until = max(self._started + CARRIER_SECONDS, time.monotonic() + CARRIER_SECONDS_MIN)
        while True:
            for state in self._netlink.links():
                if state.ifindex == index and state.carrier:
                    return state
            if time.monotonic() > until:
                raise WayError(f"no carrier after {CARRIER_SECONDS:g} s; is the cable in?")
            time.sleep(STEP)


def _is(state: LinkState, link: Link) -> bool:
    """Whether an interface is the device that a link of the plan means."""
    if link.kind != "ether" or state.kind or state.hardware == ARPHRD_LOOPBACK:
        return False
    if link.mac:
        return link.mac in ({own_mac(state, SYS)} if state.master else {state.permanent_mac, state.mac})
    return state.name == link.name


def _missing(lease: Lease, routes: tuple[Route, ...]) -> Iterator[Route]:
    """Of the routes that the machine had, those that a lease lacks and has the gateway for."""
    granted = [_subnet(route.destination) for route in lease.routes]
    own = _subnet(f"{lease.address}/{lease.prefix}")
    for route in routes:
        if ":" in route.via or not _holds(own, _subnet(f"{route.via}/32")):
            continue
        wanted = _subnet(route.destination)
        # What the server says of a network is newer; its default route says nothing of any.
        if not any(_holds(each, wanted) and (each[1] or not wanted[1]) for each in granted):
            yield route


def _subnet(text: str) -> tuple[int, int]:
    """The address and the number of bits that count, of "default" or ADDRESS/PREFIX."""
    address, _, bits = text.partition("/")
    return (int.from_bytes(socket.inet_aton(address), "big"), int(bits)) if bits else (0, 0)


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    """Whether all of one network is in another."""
    return outer[1] <= inner[1] and not (outer[0] ^ inner[0]) >> (32 - outer[1])


def _set_options(link: Link, names: dict[str, str]) -> None:
    """Of a bond. names: of its ports here, by those that they had in the healthy system."""
    for option in link.options:
        name, _, value = option.partition("=")
        if name == PRIMARY:
            value = names.get(value, value)
        try:
            with open(BONDING.format(link.name, name), "w", encoding="ascii") as file:
                file.write(value)
        except OSError as error:
            warn(f"{link.name}: {option} is refused: {error.strerror}")


def _find(netlink: Netlink, name: str) -> LinkState | None:
    return next((state for state in netlink.links() if state.name == name), None)


def _is_advertised(netlink: Netlink, state: LinkState) -> bool:
    """Wait until a router has advertised a prefix, and the kernel has made an address of it."""
    until = time.monotonic() + ADVERTISEMENT_SECONDS
    while True:
        for address in netlink.addresses():
            is_ours = address.ifindex == state.ifindex and address.is_routed
            if is_ours and ":" in address.address and not address.tentative and not address.permanent:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(STEP)


def _forget_others(netlink: Netlink, index: int) -> None:
    """Take away what earlier ways have set, so that one does not send over another."""
    loopback = {state.ifindex for state in netlink.links() if state.hardware == ARPHRD_LOOPBACK}
    for address in netlink.addresses():
        if address.ifindex not in loopback and address.is_routed and address.ifindex != index:
            _take_away(netlink, address)


def _forget_earlier(netlink: Netlink, index: int, granted: str) -> None:
    """Take IPv4 addresses away that an interface had before it was granted one: the kernel sends from the oldest."""
    for address in reversed(netlink.addresses()):  # with the oldest of a subnet the kernel takes all of it away
        if address.ifindex == index and ":" not in address.address and address.address != granted:
            _take_away(netlink, address)


def _take_away(netlink: Netlink, address: AddressState) -> None:
    try:
        netlink.remove_address(address)
    except OSError as error:
        warn(f"cannot take {address.address} away: {error.strerror}")


def _write_servers(servers: tuple[str, ...]) -> None:
    """Name servers for this way. Without any, the addresses that names had when the image was built are used."""
    try:
        if servers:
            with open(RESOLV_CONF, "w", encoding="ascii") as file:
                file.write("".join(f"nameserver {server}\n" for server in servers) + "options timeout:2 attempts:2\n")
        elif os.path.exists(RESOLV_CONF):
            os.unlink(RESOLV_CONF)
    except OSError as error:
        warn(f"cannot write {RESOLV_CONF}: {error.strerror}")
