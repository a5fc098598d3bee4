"""`netdump token`: a one-time token for a newcomer."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from netdump.cli.holder import chosen_holder, holder_options
from netdump.cli.selection import UNITS
from netdump.errors import AddressError, ConfigError
from netdump.pki import Authority, Role
from netdump.pki.endpoint import Endpoint
from netdump.pki.record import timestamp
from netdump.pki.token import TTL_MAX, TTL_MIN
from netdump.server.config import CONFIG_NAME, load, parse_address
from netdump.wire import PORT_API

if TYPE_CHECKING:
    from collections.abc import Iterable

STATUS_NAME = "serve.json"
NAMES_MAX = 100_000


def parse_ttl(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Return the seconds in a time like 90m, 24h or 7d; bare digits are seconds. Raises click.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", value.strip(), re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time: write a number and s, m, h, d or w, as in 24h")
    seconds = int(match[1]) * UNITS[match[2] or "s"]
    if not TTL_MIN <= seconds <= TTL_MAX:
        raise click.BadParameter(f"{value!r} is not between 1m and 30d")
    return seconds


@click.command("token", short_help="Make a one-time token, with which a host or person enrolls.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@holder_options
@click.option(
    "--hosts",
    "hosts_file",
    metavar="FILE",
    type=click.File(encoding="utf-8-sig", errors="replace"),
    help="Many machines at once, one name a line; - for standard input.",
)
@click.option(
    "--ttl",
    callback=parse_ttl,
    metavar="TIME",
    default="24h",
    show_default=True,
    help="How long it is good: 1m to 30d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: token, name, role, expires.")
def command(directory: Path, hosts_file: TextIO | None, ttl: int, as_json: bool, **names: str | None) -> None:
    """Make a one-time token, with which a host or person enrolls at the collector whose folder is DIR.

    The token alone is printed on standard output. It is good for one certificate, for exactly this name and role, until
    it expires; it also carries the fingerprint of this collector's authority, so that the newcomer cannot be fooled by
    another. Whoever has it can enroll under that name: hand it over as you would a password. Only its hash is kept
    here.

    With --hosts a line is printed for each token, NAME and token, as it is made; with --json an object a line. Lines of
    FILE that are empty or begin with # are passed over.

    A name may enroll again, with a new token, at any time. That does not revoke the key it had before; `netdump revoke`
    does, of the name before that, for it ends all of its keys, or else by --fingerprint.

    \b
    Examples:
      netdump token /srv/netdump --host web1
      netdump token /srv/netdump --analyst ann --ttl 2h
      netdump token /srv/netdump --hosts rack7.txt --ttl 7d > tokens

    See also: netdump enroll, netdump revoke, netdump certificates.
    """
    holder = chosen_holder(names)
    if (holder is None) == (hosts_file is None):
        raise click.UsageError("say for whom: --host NAME, --analyst NAME or --operator NAME, or --hosts FILE")
    role, wanted = (Role.HOST, read_names(hosts_file)) if holder is None else (holder[0], [holder[1]])
    authority = Authority.load(directory)
    # Before a token is made, of which nobody could be told how to use it.
    where = None if as_json else Endpoint(authority.collector_names()[0], _api_port(directory))
    now = int(time.time())
    for name, token in zip(wanted, authority.make_tokens(wanted, role, ttl, now), strict=True):
        if as_json:
            fields = {"token": token, "name": name, "role": str(role), "expires": timestamp(now + ttl)}
            click.echo(json.dumps(fields, indent=None if hosts_file else 2))
        else:
            click.echo(f"{name} {token}" if hosts_file else token)
    if where is not None:
        whom = f"each for one of {len(wanted):,} hosts" if hosts_file else f"for {role} {wanted[0]}"
        click.echo(f"Good once, {whom}, until {timestamp(now + ttl)}. There, run:", err=True)
        click.echo(f"  netdump enroll {where.url} --token TOKEN", err=True)


def read_names(file: Iterable[str] | None) -> list[str]:
    """The names that stand in a file, each once, in their order. Raises click.UsageError."""
    names: dict[str, None] = {}
    for line in file or ():
        if (name := line.strip()) and not name.startswith("#"):
            names[name] = None
        if len(names) > NAMES_MAX:
            break
    if not 0 < len(names) <= NAMES_MAX:
        raise click.UsageError(f"--hosts takes 1 to {NAMES_MAX:,} names, one a line")
    return list(names)


def _api_port(directory: Path) -> int:
    """The port of the API: where a collector listens now, else as the settings say.

    Bad settings are for `netdump serve` to report.
    """
    running = _listening(directory / STATUS_NAME)
    if running is not None:
        return running
    try:
        return load(directory / CONFIG_NAME).api.listen.port or PORT_API
    except ConfigError:
        return PORT_API


def _listening(path: Path) -> int | None:
    """The port that `netdump serve` wrote down; None if none runs. It may have another than that of the settings."""
    try:
        status = json.loads(path.read_bytes())
        os.kill(status["pid"], 0)  # it leaves the file behind when it is killed
        return parse_address(status["api"]).port
    except (OSError, ValueError, KeyError, TypeError, AddressError):
        return None
