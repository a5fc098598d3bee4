"""The stage that reaches a collector: interfaces up, addresses, routes, and a first connection.

Runs as a child of process 1, again and again until the deadline, and beside the client when no bytes move: it changes
nothing as long as a collector can be reached. Each way of the plan is tried in turn, first those that the healthy
system used; what a way needs (the interface there, a carrier, a lease) has its own time limit.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from netdump.image.init.console import say
from netdump.image.init.dhcp import obtain_lease
from netdump.image.init.netlink import ARPHRD_LOOPBACK, SCOPE_UNIVERSE, LinkState, Netlink
from netdump.image.init.plan import Route

if TYPE_CHECKING:
    from netdump.image.init.plan import Link, Plan, Way

DEVICE_SECONDS = 20.0  # a device may need that long after its module was loaded
CARRIER_SECONDS = 45.0  # switches that run spanning tree forward after 30
LEASE_SECONDS = 45.0
ADVERTISEMENT_SECONDS = 15.0
REACH_SECONDS = 5.0
STEP = 0.1  # seconds between two looks at an interface
RESOLV_CONF = "/etc/resolv.conf"
BONDING = "/sys/class/net/{}/bonding/{}"


class WayError(Exception):
    """This way does not work now; the message says why."""


def bring_up(plan: Plan) -> int:
    """Make a collector reachable. Returns 0 when one is, 1 when none is by any way."""
    if reached := reach(plan):
        say(f"{reached} is reachable")
        return 0
    netlink = Netlink()
    _loopback(netlink)
    for way in plan.ways:
        try:
            settings = _follow(netlink, plan, way)
        except (WayError, OSError) as error:
            say(f"{way.link} ({way.method}): {error}")
            continue
        if reached := reach(plan):
            say(f"{way.link} ({way.method}): {settings}; {reached} is reachable")
            return 0
        say(f"{way.link} ({way.method}): {settings}; no collector answers there")
    return 1


def reach(plan: Plan) -> str:
    """The first collector that takes a TCP connection, as HOST:PORT; "" if none does."""
    for host, port in plan.collectors:
        try:
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        for family, kind, _, _, address in found:
            with socket.socket(family, kind | socket.SOCK_CLOEXEC) as attempt:
                attempt.settimeout(REACH_SECONDS)
                try:
                    attempt.connect(address)
                except OSError:
                    continue
                return f"{host}:{port}"
    return ""


def _follow(netlink: Netlink, plan: Plan, way: Way) -> str:
    """Set up one way. Returns what was set, for people. Raises WayError, OSError."""
    links = {link.name: link for link in plan.links}
    state = _link_up(netlink, links, way.link)
    state = _carrier(netlink, state.ifindex)
    _forget_others(netlink, state.ifindex)
    if way.method == "auto":
        _await_advertisement(netlink, state)
        _write_servers(way.servers)
        return "has an advertised address"
    addresses, routes, servers = way.addresses, way.routes, way.servers
    if way.method == "dhcp":
        lease = obtain_lease(state.name, state.mac, time.monotonic() + LEASE_SECONDS)
        if lease is not None:
            addresses = (f"{lease.address}/{lease.prefix}",)
            routes = (Route("default", lease.gateway),) if lease.gateway else ()
            servers = lease.servers or servers
        elif not addresses:
            raise WayError("no DHCP server answers")
        else:
            say(f"{way.link}: no DHCP server answers; using the address it had")
    for address in addresses:
        literal, _, prefix = address.partition("/")
        netlink.add_address(state.ifindex, literal, int(prefix))
    for route in sorted(routes, key=lambda route: bool(route.via)):  # those to gateways first
        netlink.add_route(state.ifindex, route.destination, route.via)
    _write_servers(servers)
    return ", ".join(addresses)


def _link_up(netlink: Netlink, links: dict[str, Link], name: str) -> LinkState:
    """Bring a link of the plan up, with all that it stands on. Raises WayError."""
    link = links[name]
    if link.kind == "ether":
        state = _device(netlink, link)
    else:
        lower = [_link_up(netlink, links, each) for each in link.lower]
        state = _find(netlink, name) or _make(netlink, link, lower)
    netlink.set_up(state.ifindex, mtu=link.mtu)
    return state


def _device(netlink: Netlink, link: Link) -> LinkState:
    """Wait for a device. Its name may be another one here: the hardware address counts."""
    until = time.monotonic() + DEVICE_SECONDS
    while True:
        for state in netlink.links():
            if state.kind == "" and state.hardware != ARPHRD_LOOPBACK and _is(state, link):
                return state
        if time.monotonic() > until:
            names = ", ".join(state.name for state in netlink.links() if state.hardware != ARPHRD_LOOPBACK)
            raise WayError(
                f"there is no device {link.mac or link.name} (there is: {names or 'none'}); its driver may be missing "
                "in the image"
            )
        time.sleep(STEP)


def _is(state: LinkState, link: Link) -> bool:
    if link.mac:
        return link.mac in {state.permanent_mac, state.mac}
    return state.name == link.name


def _make(netlink: Netlink, link: Link, lower: list[LinkState]) -> LinkState:
    if link.kind == "vlan":
        netlink.add_link(link.name, "vlan", lower=lower[0].ifindex, vlan=link.vlan)
    else:
        netlink.add_link(link.name, "bond")
        for option in link.options:
            name, _, value = option.partition("=")
            try:
                with open(BONDING.format(link.name, name), "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                say(f"{link.name}: {option} is refused: {error.strerror}")
    state = _find(netlink, link.name)
    if state is None:
        raise WayError(f"cannot make the {link.kind}")
    if link.kind == "bond":
        for port in lower:
            netlink.set_up(port.ifindex, up=False)
            netlink.set_master(port.ifindex, state.ifindex)
            netlink.set_up(port.ifindex)
    return state


def _find(netlink: Netlink, name: str) -> LinkState | None:
    return next((state for state in netlink.links() if state.name == name), None)


def _carrier(netlink: Netlink, index: int) -> LinkState:
    until = time.monotonic() + CARRIER_SECONDS
    while True:
        for state in netlink.links():
            if state.ifindex == index and state.carrier:
                return state
        if time.monotonic() > until:
            raise WayError(f"no carrier after {CARRIER_SECONDS:g} s; is the cable in?")
        time.sleep(STEP)


def _await_advertisement(netlink: Netlink, state: LinkState) -> None:
    until = time.monotonic() + ADVERTISEMENT_SECONDS
    while True:
        for address in netlink.addresses():
            is_ours = address.ifindex == state.ifindex and address.scope == SCOPE_UNIVERSE
            if is_ours and ":" in address.address and not address.tentative:
                return
        if time.monotonic() > until:
            raise WayError("no router advertises a prefix")
        time.sleep(STEP)


def _forget_others(netlink: Netlink, index: int) -> None:
    """Take away what earlier ways have set, so that one does not send over another."""
    loopback = {state.ifindex for state in netlink.links() if state.hardware == ARPHRD_LOOPBACK}
    for address in netlink.addresses():
        if address.ifindex not in loopback and address.scope == SCOPE_UNIVERSE and address.ifindex != index:
            try:
                netlink.remove_address(address)
            except OSError as error:
                say(f"cannot take {address.address} away: {error.strerror}")


def _loopback(netlink: Netlink) -> None:
    for state in netlink.links():
        if state.hardware == ARPHRD_LOOPBACK and not state.up:
            netlink.set_up(state.ifindex)


def _write_servers(servers: tuple[str, ...]) -> None:
    """Name servers for this way. Without any, the addresses that names had when the image was built are used."""
    try:
        if servers:
            with open(RESOLV_CONF, "w", encoding="ascii") as file:
                file.write("".join(f"nameserver {server}\n" for server in servers) + "options timeout:2 attempts:2\n")
        elif os.path.exists(RESOLV_CONF):
            os.unlink(RESOLV_CONF)
    except OSError as error:
        say(f"cannot write {RESOLV_CONF}: {error.strerror}")
