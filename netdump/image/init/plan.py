"""What the init was told by the healthy system: one text file of words.

Owns the format, for the builder that writes it and the init that reads it. One fact a line: a keyword, then words;
`key=value` words may repeat. No word holds a blank, so reading needs no library: process 1 reads this file.

    netdump-plan 1
    deadline 3600
    final reboot
    failure reboot
    module /lib/modules/virtio_net.ko napi_weight=64
    link eth0 ether mac=52:54:00:12:34:56
    link bond0 bond lower=eth0 lower=eth1 option=mode=active-backup
    way bond0 static address=192.0.2.7/24 route=default via=192.0.2.1
    way eth1 dhcp
    collector collector.example 7461
"""

from __future__ import annotations

from netdump.namedtuple import NamedTuple

PLAN_PATH = "/etc/netdump/plan"
BUNDLE_PATH = "/etc/netdump/client.toml"
FIRST_LINE = "netdump-plan 1"
ACTIONS = ("reboot", "poweroff", "halt", "shell")
METHODS = ("static", "dhcp", "auto")
KINDS = ("ether", "vlan", "bond")

DEADLINE = 3600.0
DEADLINE_MIN, DEADLINE_MAX = 60.0, 30 * 86400.0
WATCHDOG_SECONDS = 60


class PlanError(Exception):
    """The plan is damaged. Raised inside the image only, where it leads to the failure action."""


class Module(NamedTuple):
    """A kernel module to load. path: in the image. options: as modprobe passes them on, NAME=VALUE."""

    path: str
    options: tuple[str, ...] = ()


class Link(NamedTuple):
    """A network interface to have. Names are those of the healthy system.

    kind: one of KINDS. mac: of the device, lower case, "" for whatever it has. lower: names of the links it stands on.
    vlan: VLAN id, 0 for none. options: of a bond, NAME=VALUE as in /sys/class/net/*/bonding. mtu: 0 for the default.
    """

    name: str
    kind: str
    mac: str = ""
    lower: tuple[str, ...] = ()
    vlan: int = 0
    options: tuple[str, ...] = ()
    mtu: int = 0


class Route(NamedTuple):
    """destination: "default" or a prefix such as 192.0.2.0/24. via: the gateway, "" if there is none."""

    destination: str
    via: str


class Way(NamedTuple):
    """One way to reach the network; the init tries them in order.

    method: one of METHODS; auto means IPv6 router advertisements. addresses: ADDRESS/PREFIX. servers: name servers.
    """

    link: str
    method: str
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    servers: tuple[str, ...] = ()


class Save(NamedTuple):
    """Where the dump goes if no collector can be reached.

    kind: file system type. uuid: of that file system, 32 hex digits. folder: inside it, as an absolute path.
    """

    kind: str
    uuid: str
    folder: str


class Plan(NamedTuple):
    """All of it. deadline: seconds from the start of the init until the final action, for sending; save_deadline:
    seconds more for saving. watchdog: seconds after which the hardware may reset the machine, 0 leaves it alone.
    """

    deadline: float = DEADLINE
    save_deadline: float = 1800.0
    final: str = "reboot"
    failure: str = "reboot"
    watchdog: int = WATCHDOG_SECONDS
    modules: tuple[Module, ...] = ()
    links: tuple[Link, ...] = ()
    ways: tuple[Way, ...] = ()
    collectors: tuple[tuple[str, int], ...] = ()
    save: Save | None = None


def pack_plan(plan: Plan) -> str:
    """Return the text of a plan. No word of it may hold a blank."""
    lines = [
        FIRST_LINE,
        f"deadline {plan.deadline:g}",
        f"save-deadline {plan.save_deadline:g}",
        f"final {plan.final}",
        f"failure {plan.failure}",
        f"watchdog {plan.watchdog}",
        *(" ".join(("module", module.path, *module.options)) for module in plan.modules),
        *(_link_line(link) for link in plan.links),
        *(_way_line(way) for way in plan.ways),
        *(f"collector {host} {port}" for host, port in plan.collectors),
    ]
    if plan.save:
        lines.append(f"save {plan.save.kind} {plan.save.uuid} {plan.save.folder}")
    return "\n".join(lines) + "\n"


def parse_plan(text: str) -> Plan:
    """Read the text of a plan. Raises PlanError, whatever is wrong with it."""
    lines = text.splitlines()
    if not lines or lines[0] != FIRST_LINE:
        raise PlanError(f"{PLAN_PATH} does not begin with {FIRST_LINE!r}")
    plan = Plan()
    for line in lines[1:]:
        try:
            keyword, *words = line.split()
            plan = _apply(plan, keyword, words)
        except (ValueError, IndexError, TypeError) as error:
            raise PlanError(f"{PLAN_PATH}: cannot read {line!r} ({error})") from error
    known = {link.name for link in plan.links}
    for name in (*(way.link for way in plan.ways), *(name for link in plan.links for name in link.lower)):
        if name not in known:
            raise PlanError(f"{PLAN_PATH}: there is no link {name}")
    return plan


def parse_seconds(word: str, floor: float = 1) -> float:
    """A time limit, floor to DEADLINE_MAX. Raises ValueError."""
    seconds = float(word)
    if not floor <= seconds <= DEADLINE_MAX:  # nor is it infinite, or no number
        raise ValueError(f"must be from {floor:g} to {DEADLINE_MAX:g} seconds")
    return seconds


def _link_line(link: Link) -> str:
    words = ["link", link.name, link.kind]
    words += [f"mac={link.mac}"] if link.mac else []
    words += [f"lower={name}" for name in link.lower]
    words += [f"vlan={link.vlan}"] if link.vlan else []
    words += [f"option={option}" for option in link.options]
    words += [f"mtu={link.mtu}"] if link.mtu else []
    return " ".join(words)


def _way_line(way: Way) -> str:
    words = ["way", way.link, way.method]
    words += [f"address={address}" for address in way.addresses]
    words += [f"route={route.destination},{route.via}" for route in way.routes]
    words += [f"server={server}" for server in way.servers]
    return " ".join(words)


def _apply(plan: Plan, keyword: str, words: list[str]) -> Plan:
    match keyword:
        case "deadline":
            return plan._replace(deadline=parse_seconds(words[0]))
        case "save-deadline":
            return plan._replace(save_deadline=parse_seconds(words[0]))
        case "final":
            return plan._replace(final=_one_of(words[0], ACTIONS))
        case "failure":
            return plan._replace(failure=_one_of(words[0], ACTIONS))
        case "watchdog":
            return plan._replace(watchdog=int(parse_seconds(words[0], 0)))
        case "module":
            return plan._replace(modules=(*plan.modules, Module(words[0], tuple(words[1:]))))
        case "link":
            return plan._replace(links=(*plan.links, _parse_link(words)))
        case "way":
            return plan._replace(ways=(*plan.ways, _parse_way(words)))
        case "collector":
            return plan._replace(collectors=(*plan.collectors, (words[0], int(words[1]))))
        case "save":
            return plan._replace(save=Save(words[0], words[1], words[2]))
    raise ValueError(f"unknown keyword {keyword}")


def _parse_link(words: list[str]) -> Link:
    options = _options(words[2:])
    return Link(
        words[0],
        _one_of(words[1], KINDS),
        mac=_last(options, "mac"),
        lower=options.get("lower", ()),
        vlan=int(_last(options, "vlan") or 0),
        options=options.get("option", ()),
        mtu=int(_last(options, "mtu") or 0),
    )


def _parse_way(words: list[str]) -> Way:
    options = _options(words[2:])
    return Way(
        words[0],
        _one_of(words[1], METHODS),
        addresses=options.get("address", ()),
        routes=tuple(Route(*route.partition(",")[::2]) for route in options.get("route", ())),
        servers=options.get("server", ()),
    )


def _options(words: list[str]) -> dict[str, tuple[str, ...]]:
    options: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word} is not NAME=VALUE")
        options[key] = (*options.get(key, ()), value)
    return options


def _last(options: dict[str, tuple[str, ...]], name: str) -> str:
    return options.get(name, ("",))[-1]


def _one_of(word: str, allowed: tuple[str, ...]) -> str:
    if word not in allowed:
        raise ValueError(f"must be one of {', '.join(allowed)}")
    return word
