"""config.toml of a collector: every setting with its default, its range and its meaning, said once, here.

The dataclasses below are the schema: reading, the file that `netdump init` writes and the check of docs/config.md all
come from them. 0 never means unlimited: every number has a floor and a ceiling. Nothing here opens a socket or a store.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import ipaddress
import json
import os
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from netdump import wire
from netdump.errors import AddressError, ConfigError, ConfigMissingError
from netdump.namedtuple import NamedTuple
from netdump.pki.folder import NAME as PKI_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONFIG_NAME = "config.toml"
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
DAY_S = 86_400
ADDRESSES_MAX = 16  # as many as netdump.pki takes from a collector
ADDRESS_TEXT_MAX = 262  # a DNS name of 253 characters, brackets, a colon and a port
CONFIG_BYTES_MAX = MIB


class Address(NamedTuple):
    """Where to listen or connect.

    host: a name or address without brackets, "" for every address of the machine. port: 0 .. 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT or *:PORT. Port 0 lets the system choose. Raises AddressError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    sound = bool(colon) and bool(host) and len(text) <= ADDRESS_TEXT_MAX and host.isascii() and host.isprintable()
    if not sound or " " in host or (":" in host) != bracketed:
        raise AddressError(f"{text!r} is not an address: write HOST:PORT, [IPV6]:PORT or *:PORT")
    if "%" in host or _is_link_local(host):
        raise AddressError(f"{text!r} is an address of one link only: write one that is routed, a name, or *")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise AddressError(f"{text!r} has no port between 0 and 65535")
    return Address("" if host == "*" else host, int(port))


def _is_link_local(host: str) -> bool:
    """Whether it is an IPv6 address of a single link (fe80::/10)."""
    try:
        return ipaddress.IPv6Address(host).is_link_local
    except ValueError:
        return False


def _whole(default: int, low: int, high: int, doc: str) -> int:
    assert low <= default <= high
    return field(default=default, metadata={"low": low, "high": high, "doc": doc})


def _flag(default: bool, doc: str) -> bool:
    return field(default=default, metadata={"doc": doc})


def _addresses(doc: str) -> tuple[Address, ...]:
    return cast("tuple[Address, ...]", field(default=(), metadata={"doc": doc}))


@dataclass(frozen=True, slots=True)
class Ingest:
    """[ingest]: how hosts reach the collector, and what one connection is granted."""

    listen: Address = field(
        default=Address("", wire.PORT_INGEST),
        metadata={
            "doc": "where hosts send dumps to; * stands for every address of the machine, a name for its first address"
        },
    )
    advertise: tuple[Address, ...] = _addresses(
        "collectors that newly enrolled hosts are told of, in their order; empty: the address they enrolled at"
    )
    credit_bytes: int = _whole(
        32 * MIB,
        wire.CREDIT_MIN,
        wire.CREDIT_MAX,
        "what a host may have sent and not had acknowledged: bounds memory per dump, and what a cut costs",
    )
    credit_total_bytes: int = _whole(
        96 * MIB,
        8 * MIB,
        64 * GIB,
        "the same for all hosts together, shared evenly (4 MiB each at least): how long an acknowledgement takes",
    )
    keepalive_s: int = _whole(
        5, wire.KEEPALIVE_MIN, wire.KEEPALIVE_MAX, "a silent side says that it lives after this time"
    )
    idle_s: int = _whole(
        30,
        wire.IDLE_MIN,
        wire.IDLE_MAX,
        "a connection without a sign of life is dropped; at least three times keepalive_s",
    )
    handshake_s: int = _whole(10, 1, 60, "time for the TLS handshake, counted from the connection's first moment")
    rate_window_s: int = _whole(60, 5, 3600, "how long a host that may send is watched before it is found too slow")
    rate_bytes: int = _whole(
        64 * KIB,
        KIB,
        GIB,
        "bytes a second, of image or of the wire, that a host must bring when it may send; slower ones are dropped",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]: what all hosts, one source address, one host may take up."""

    connections: int = _whole(
        256,
        1,
        65_536,
        "connections of hosts in total, those in their TLS handshake included; "
        "at least active_dumps + slow_dumps + waiting_dumps",
    )
    connections_per_source: int = _whole(
        32, 1, 65_536, "connections of one source address (IPv6: of one /64) that have not proved to be a host's"
    )
    handshakes: int = _whole(64, 1, 65_536, "TLS handshakes under way in total")
    handshakes_per_source: int = _whole(
        8, 1, 65_536, "TLS handshakes under way of one source address (IPv6: of one /64)"
    )
    connections_per_host: int = _whole(
        8, 2, 1024, "connections of one host, wherever it is; what is more is cut, and the host tries again"
    )
    connections_per_host_per_minute: int = _whole(
        240, 6, 60_000, "new connections of one host; what is more is cut, and the host tries again"
    )
    active_dumps: int = _whole(
        16, 1, 4096, "dumps whose pages arrive at the same time; others wait, their headline delivered"
    )
    slow_dumps: int = _whole(
        48,
        1,
        4096,
        "as many more as there are that send less than 2 MiB a second, and not for want of the collector",
    )
    active_dumps_per_host: int = _whole(2, 1, 1024, "dumps of one host whose pages arrive at the same time")
    waiting_dumps: int = _whole(
        128, 1, 65_536, "dumps that wait, connected, until others are through; of more, the last ones come back later"
    )
    defer_s: int = _whole(
        15,
        wire.DEFER_MIN,
        wire.DEFER_MAX,
        "after how long hosts that were turned away for now come back; later where they are many",
    )
    dumps_per_host_per_day: int = _whole(24, 1, 100_000, "new dumps of one host within 24 hours; more are declined")
    stored_bytes_per_host: int = _whole(
        4 * TIB, 64 * MIB, 1 << 60, "what the segments of one host's dumps may take up in the store; more is declined"
    )
    image_bytes: int = _whole(64 * TIB, MIB, wire.IMAGE_BYTES_MAX, "largest image that is accepted")


@dataclass(frozen=True, slots=True)
class Space:
    """[space]: what stays free on the file system of the store."""

    min_free_bytes: int = _whole(
        GIB, 16 * MIB, 1 << 60, "with less than this free, nothing more is written: dumps under way wait"
    )
    min_free_percent: int = _whole(
        2,
        0,
        50,
        "the same as a share of the file system; the larger of the two counts, 0 leaves it to the bytes; "
        "of the files (inodes) that it can have, this share or 10000 stay free as well, whichever is less",
    )
    admit_free_bytes: int = _whole(
        4 * GIB,
        16 * MIB,
        1 << 60,
        "with less than this free, vmcore files are dropped, oldest first, then only the headlines of new dumps are "
        "taken: they are told to come back with the rest",
    )
    admit_free_percent: int = _whole(
        5,
        0,
        90,
        "the same as a share of the file system; the larger of the two counts, 0 leaves it to the bytes; "
        "with fewer files free than this share or 200000, whichever is less, new dumps are told to come back as well",
    )
    check_s: int = _whole(5, 1, 300, "how often free space is looked at while somebody waits for it")


@dataclass(frozen=True, slots=True)
class Storage:
    """[store]: when chunks become durable, and what is made of a complete dump."""

    publish_bytes: int = _whole(
        8 * MIB, MIB, 256 * MIB, "a segment is published, and acknowledged, when it holds this much"
    )
    publish_s: int = _whole(1, 1, 4, "and in any case after this time; [W-58] allows 5")
    keep_vmcore: bool = _flag(
        True,
        "restore the core file of each complete dump beside it, while there is room; `netdump fetch` always can",
    )


@dataclass(frozen=True, slots=True)
class Scrub:
    """[scrub]: reading what is stored again and again, to find what has rotted."""

    enabled: bool = _flag(True, "check all dumps in the background, as `netdump verify` does")
    pass_days: int = _whole(30, 1, 365, "every dump is checked at least once in this time")
    rate_bytes: int = _whole(
        32 * MIB, 64 * KIB, 4 * GIB, "bytes a second that are read at most, even if pass_days asks for more"
    )


@dataclass(frozen=True, slots=True)
class Api:
    """[api]: the HTTPS side, for enrolment and analysts."""

    listen: Address = field(
        default=Address("", wire.PORT_API),
        metadata={
            "doc": "where enrolment and analysts connect to; "
            "* stands for every address of the machine, a name for its first address"
        },
    )
    connections: int = _whole(128, 1, 65_536, "connections in total, those in their TLS handshake included")
    connections_per_source: int = _whole(32, 1, 65_536, "connections of one source address (IPv6: of one /64)")
    request_s: int = _whole(15, 1, 300, "time for a whole request to arrive")
    stall_s: int = _whole(60, 5, 3600, "an answer that a client does not read is given up after this time")
    enrolments_per_minute: int = _whole(120, 1, 100_000, "enrolment requests in total; renewals, as many again")
    enrolments_per_minute_per_source: int = _whole(
        10,
        1,
        100_000,
        "enrolment requests of one source address (IPv6: of one /64); renewals of one name, at most 24 a day",
    )
    verifications: int = _whole(1, 1, 64, "dumps verified at the same time on analysts' request")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything in config.toml; the defaults are a working collector."""

    ingest: Ingest = field(default_factory=Ingest)
    api: Api = field(default_factory=Api)
    limits: Limits = field(default_factory=Limits)
    space: Space = field(default_factory=Space)
    store: Storage = field(default_factory=Storage)
    scrub: Scrub = field(default_factory=Scrub)


class Key(NamedTuple):
    """One setting as the pages show it: section and name as in the file, default and range as TOML text."""

    section: str
    name: str
    default: str
    range: str
    doc: str


SECTIONS: Mapping[str, type] = {
    "ingest": Ingest,
    "api": Api,
    "limits": Limits,
    "space": Space,
    "store": Storage,
    "scrub": Scrub,
}


def iter_keys() -> Iterator[Key]:
    """Every setting, in the order of the file."""
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            yield Key(section, item.name, _toml(item.default), _range(item), item.metadata["doc"])


def default_text() -> str:
    """A config.toml that changes nothing: each setting with its meaning, commented out at its default."""
    lines = [
        "# Settings of this netdump collector. A setting that is commented out has the value shown. See docs/config.md."
    ]
    section = ""
    for key in iter_keys():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        lines += [f"# {key.doc}; {key.range}", f"#{key.name} = {key.default}"]
    return "\n".join(lines) + "\n"


def load(path: Path) -> Config:
    """Read config.toml.

    Raises ConfigMissingError, and ConfigError for anything that is not a known setting with a value in its range.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        if os.path.isdir(path.parent / PKI_NAME):
            advice = "put it back, or make an empty one, with which all settings have their defaults"
        else:
            advice = "make a collector with `netdump init`"
        raise ConfigMissingError(f"{path} is missing: {advice}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {CONFIG_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(raw.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError) as error:  # of which TOMLDecodeError is one, and a number of 5,000 digits none
        raise ConfigError(f"{path} is not valid TOML ({error}): correct it there") from error
    return build(document, str(path))


def build(document: Mapping[str, object], where: str = CONFIG_NAME) -> Config:
    """Make a Config of a parsed document; `where` names it in errors. Raises ConfigError."""
    sections: dict[str, object] = {}
    for name, content in document.items():
        kind = SECTIONS.get(name)
        if kind is None:
            raise ConfigError(f"{where}: unknown section [{name}]{_nearest(name, SECTIONS)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{where}: {name} is a section: write [{name}]")
        sections[name] = kind(**_values(kind, name, content, where))
    config = Config(**sections)  # type: ignore[arg-type]  # SECTIONS has the types
    _check_together(config, where)
    return config


def _values(kind: type, section: str, content: Mapping[str, object], where: str) -> dict[str, object]:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    values = {}
    for name, value in content.items():
        if name not in fields:
            raise ConfigError(f"{where}: unknown setting {name} in [{section}]{_nearest(name, fields)}")
        values[name] = _value(fields[name], value, f"{where}: [{section}] {name}")
    return values


def _value(item: dataclasses.Field[object], value: object, what: str) -> object:
    default = item.default
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{what} must be true or false, not {value!r}")
        return value
    if isinstance(default, int):
        low, high = item.metadata["low"], item.metadata["high"]
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{what} must be a whole number, not {value!r}")
        if not low <= value <= high:
            raise ConfigError(f"{what} must be between {low} and {high}, not {value}")
        return value
    if isinstance(default, Address):
        return _parse_text(value, what)
    if not isinstance(value, list) or len(value) > ADDRESSES_MAX:
        raise ConfigError(f"{what} must be a list of at most {ADDRESSES_MAX} addresses")
    addresses = tuple(_parse_text(text, what) for text in value)
    if any(not address.host or not address.port for address in addresses):
        raise ConfigError(f"{what} must name a host and a port in each address")
    return addresses


def _parse_text(value: object, what: str) -> Address:
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be text in quotes, not {value!r}")
    try:
        return parse_address(value)
    except AddressError as error:
        raise ConfigError(f"{what}: {error}") from error


def _check_together(config: Config, where: str) -> None:
    ingest, space, limits = config.ingest, config.space, config.limits
    if ingest.idle_s < 3 * ingest.keepalive_s:
        raise ConfigError(
            f"{where}: [ingest] idle_s ({ingest.idle_s}) must be at least 3 * keepalive_s ({ingest.keepalive_s})"
        )
    if space.admit_free_bytes < space.min_free_bytes or space.admit_free_percent < space.min_free_percent:
        raise ConfigError(f"{where}: [space] admit_free_… must not be less than min_free_…")
    if config.store.publish_bytes > ingest.credit_bytes:
        # Half of the credit is what really triggers then; a larger value would only mislead.
        raise ConfigError(
            f"{where}: [store] publish_bytes must not exceed [ingest] credit_bytes ({ingest.credit_bytes})"
        )
    dumps = limits.active_dumps + limits.slow_dumps + limits.waiting_dumps
    if dumps > limits.connections:
        # Each has its connection: those that are to wait would be cut at the door, their headlines not delivered.
        raise ConfigError(
            f"{where}: [limits] active_dumps + slow_dumps + waiting_dumps ({dumps}) "
            f"must not exceed connections ({limits.connections})"
        )


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(known)}"


def _toml(value: object) -> str:
    if isinstance(value, Address):
        return json.dumps(str(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return json.dumps(value)


def _range(item: dataclasses.Field[object]) -> str:
    if isinstance(item.default, bool):
        return "true or false"
    if isinstance(item.default, int):
        return f"{item.metadata['low']} to {item.metadata['high']}"
    return (
        "HOST:PORT, [IPV6]:PORT or *:PORT"
        if isinstance(item.default, Address)
        else f"a list of at most {ADDRESSES_MAX} HOST:PORT"
    )
