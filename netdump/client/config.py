"""What an administrator can set: the bundle (client.toml) and `netdump.*=` words of the kernel command line.

Owns the list of settings, their floors and ceilings, and which source wins: command line of the process, then kernel
command line, then the [send] table of the bundle, then the default. Reads files; makes no TLS context (credentials)
and opens no connection. An unknown or impossible setting of the bundle or the process is an error, never ignored: it is
found when the bundle is armed. One on the kernel command line is left out with a warning: in a capture kernel a dump is
worth more than a complaint.
"""

from __future__ import annotations

import codecs
import os
import tomllib
from typing import TYPE_CHECKING, Any

from netdump.client.address import Address, parse_address
from netdump.client.words import WORD_PREFIX
from netdump.errors import BundleError, ConfigError, ConfigMissingError
from netdump.namedtuple import NamedTuple
from netdump.wire import TEXT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_CONFIG = "/etc/netdump/client.toml"
BUNDLE_VERSION = 1
BUNDLE_BYTES_MAX = 1 << 20
COLLECTORS_MAX = 16


class Setting(NamedTuple):
    """One setting of [send], which is also the word `netdump.NAME=`.

    kind: int, float, bool or str. floor, ceiling: of the number, or of the encoded length of a str. text: for the
    pages that list settings.
    """

    kind: type[int | float | bool | str]
    floor: float
    ceiling: float
    text: str


LEVEL_CAPTURE = 31
"""Dump level in a capture kernel: all that can be left out is."""

LEVEL_FILE = 0
"""Dump level for a file that somebody named: it arrives as it is."""

SETTINGS: Mapping[str, Setting] = {
    "level": Setting(int, 0, 31, "dump level, as makedumpfile -d"),
    "deadline": Setting(float, 1, 30 * 86400, "seconds from the start after which the sender ends, whatever the state"),
    "patience": Setting(float, 1, 30 * 86400, "seconds without any progress after which the sender gives up"),
    "connect_timeout": Setting(float, 0.1, 300, "seconds for a TCP connection, and again for the TLS handshake"),
    "dns_timeout": Setting(float, 0.1, 300, "seconds for looking up a collector's name"),
    "stall_timeout": Setting(
        float, 1, 3600, "seconds of silence from the collector after which the sender connects again"
    ),
    "progress_timeout": Setting(
        float, 5, 86400, "seconds without an acknowledgement, alive or not, after which it connects again"
    ),
    "retry_min": Setting(float, 0.05, 60, "seconds before the first new attempt; doubles with each"),
    "retry_max": Setting(float, 0.05, 3600, "longest wait between two attempts, in seconds"),
    "compression": Setting(
        int,
        -7,
        9,
        "zstd level; 0 sends the data as it is; default: chosen anew for each chunk, by the speed of link and CPU",
    ),
    "threads": Setting(int, 1, 8, "threads that compress, 2 MiB each; default: as many as there are CPUs, at most 3"),
    "progress_interval": Setting(float, 0.5, 3600, "seconds between two lines of progress where there is no terminal"),
    "kmsg": Setting(bool, 0, 1, "write important lines to the kernel log too; default: only for /proc/vmcore"),
    "drill": Setting(bool, 0, 1, "mark the dump as a drill: nothing crashed"),
    "remark": Setting(str, 0, TEXT_MAX, "a line that is stored with the dump"),
}


class Settings(NamedTuple):
    """Settings in effect, checked. Times in seconds; None: chosen by what is sent. Names and ranges: SETTINGS."""

    level: int | None = None
    deadline: float | None = None
    patience: float | None = None
    connect_timeout: float = 10
    dns_timeout: float = 10
    stall_timeout: float = 60
    progress_timeout: float = 600
    retry_min: float = 0.5
    retry_max: float = 30
    compression: int | None = None
    threads: int | None = None
    progress_interval: float = 5
    kmsg: bool | None = None
    drill: bool = False
    remark: str = ""

    def level_of(self, *, capture: bool) -> int:
        """The dump level in effect. capture: memory is sent, not a file that somebody named."""
        if self.level is not None:
            return self.level
        return LEVEL_CAPTURE if capture else LEVEL_FILE


class Credentials(NamedTuple):
    """The PEM texts of the [tls] table. key is secret: never printed."""

    ca: str
    certificate: str
    key: str


class Config(NamedTuple):
    """Everything the sender was told.

    name: of this host, for messages only; the collector takes it from the certificate, [W-05].
    """

    name: str
    collectors: tuple[Address, ...]
    credentials: Credentials
    settings: Settings
    warnings: tuple[str, ...] = ()


def load_config(path: str, words: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
    """Read the bundle at path and apply words and overrides to it.

    words: of the kernel command line (parse_words). overrides: settings by name, from the command line of the process.
    Raises ConfigMissingError, ConfigError, BundleError.
    """
    text, warnings = _read_bundle(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of which TOMLDecodeError is one, and a number of 5,000 digits none
        raise ConfigError(f"{path} is not valid TOML ({error}): correct it there, or enroll again") from error
    _refuse_unknown(document, ("version", "name", "role", "collectors", "api", "tls", "send"), path)
    if document.get("version") != BUNDLE_VERSION:
        raise ConfigError(
            f"{path}: version is {document.get('version')!r}, this netdump reads {BUNDLE_VERSION}: enroll again"
        )
    role = document.get("role", "host")
    if role != "host":
        raise ConfigError(
            f"{path} is a bundle of role {role!r}, which cannot send: enroll this host with a token of role host"
        )
    collectors = _counted(_collectors(document.get("collectors"), path), path)
    chosen: dict[str, Any] = dict(_table(document, "send", path))
    _refuse_unknown(chosen, SETTINGS, f"{path} [send]")
    chosen = {name: _checked(name, value, f"{path} [send]") for name, value in chosen.items()}
    for name, word in words.items():
        try:
            if name == "collectors":
                collectors = parse_collectors(word)
            else:
                _refuse_unknown((name,), ("collectors", *SETTINGS), "kernel command line", WORD_PREFIX)
                chosen[name] = _checked(name, _typed(name, word), f"kernel command line: {WORD_PREFIX}{name}")
        except ConfigError as error:
            warnings += (f"{error} (the word is left out)",)
    chosen.update({name: _checked(name, value, f"--{name.replace('_', '-')}") for name, value in overrides.items()})
    settings = Settings()._replace(**chosen)
    if settings.retry_min > settings.retry_max:
        problem = f"retry_min ({settings.retry_min:g} s) is more than retry_max ({settings.retry_max:g} s)"
        if not {"retry_min", "retry_max"} & words.keys():
            raise ConfigError(problem)
        warnings += (f"kernel command line: {problem} (both are left at their defaults)",)
        settings = settings._replace(retry_min=Settings().retry_min, retry_max=Settings().retry_max)
    name = document.get("name", "")
    return Config(name if isinstance(name, str) else "", collectors, _credentials(document, path), settings, warnings)


def parse_collectors(word: str) -> tuple[Address, ...]:
    """Read the word `netdump.collectors=`: addresses with commas between them. Raises ConfigError."""
    return _counted(tuple(parse_address(part) for part in word.split(",")), "kernel command line")


def _read_bundle(path: str) -> tuple[str, tuple[str, ...]]:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(BUNDLE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigMissingError(
            f"{path} does not exist: name the bundle with --config, or make one with `netdump enroll`"
        ) from error
    except OSError as error:
        remedy = ": run this as its owner or as root" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{path} cannot be read: {error.strerror}{remedy}") from error
    if len(raw) > BUNDLE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {BUNDLE_BYTES_MAX} bytes: that is no bundle")
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode()  # some editors begin a file with one
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}): that is no bundle") from error
    warnings = (f"{path} holds a private key and is readable by others: chmod 600 it",) if mode & 0o077 else ()
    return text, warnings


def _refuse_unknown(names: Iterable[str], known: Iterable[str], where: str, prefix: str = "") -> None:
    allowed = tuple(known)
    for name in names:
        if name not in allowed:
            from difflib import get_close_matches  # noqa: PLC0415 - only to help after a mistake

            near = get_close_matches(name, allowed, 1, 0.5)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(sorted(allowed))}"
            raise ConfigError(f"{where}: unknown setting {prefix}{name}{hint}")


def _table(document: Mapping[str, object], name: str, path: str) -> Mapping[str, object]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} must be a table, [{name}]")
    return table


def _counted(collectors: tuple[Address, ...], where: str) -> tuple[Address, ...]:
    if not 1 <= len(collectors) <= COLLECTORS_MAX:
        raise ConfigError(f"{where}: collectors must name 1 to {COLLECTORS_MAX} collectors, not {len(collectors)}")
    return collectors


def _collectors(value: object, path: str) -> tuple[Address, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f'{path}: collectors must be a list of addresses, as in ["collector.example:7461"]')
    return tuple(parse_address(item) for item in value)


def _credentials(document: Mapping[str, object], path: str) -> Credentials:
    tls = _table(document, "tls", path)
    _refuse_unknown(tls, Credentials._fields, f"{path} [tls]")
    marks = {
        "ca": "-----BEGIN CERTIFICATE-----",
        "certificate": "-----BEGIN CERTIFICATE-----",
        "key": "PRIVATE KEY-----",
    }
    texts: dict[str, str] = {}
    for name, mark in marks.items():
        text = tls.get(name)
        if not isinstance(text, str) or mark not in text or not text.isascii():
            state = "missing" if text is None else "not a PEM text"
            raise BundleError(f"{path}: {name} of [tls] is {state}: enroll this host again with `netdump enroll`")
        texts[name] = text
    return Credentials(**texts)


def _typed(name: str, word: str) -> object:
    """Turn a word of the kernel command line into the setting's type; what cannot be stays text, which is refused."""
    kind = SETTINGS[name].kind
    if kind is bool:
        return {
            "1": True,
            "yes": True,
            "on": True,
            "true": True,
            "0": False,
            "no": False,
            "off": False,
            "false": False,
        }.get(word, word)
    if kind is str:
        return word
    try:
        return int(word) if kind is int else float(word)
    except ValueError:
        return word


def _checked(name: str, value: object, where: str) -> object:
    setting = SETTINGS[name]
    if setting.kind is bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{where}: {name} is {value!r}, must be true or false")
    if setting.kind is str:
        if isinstance(value, str) and len(value.encode(errors="replace")) <= setting.ceiling and value.isprintable():
            return value
        raise ConfigError(f"{where}: {name} must be printable text of at most {setting.ceiling:g} bytes")
    numbers = (int,) if setting.kind is int else (int, float)
    if isinstance(value, numbers) and not isinstance(value, bool) and setting.floor <= value <= setting.ceiling:
        return value
    word = "a whole number" if setting.kind is int else "a number"
    raise ConfigError(f"{where}: {name} is {value!r}, must be {word} from {setting.floor:g} to {setting.ceiling:g}")
