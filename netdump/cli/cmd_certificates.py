"""`netdump certificates`: what was issued, and whether it still counts."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_json, print_plain_table, warn
from netdump.cli.selection import UNITS
from netdump.errors import PkiError
from netdump.pki import Authority, authority_certificate, collector_certificate
from netdump.pki.record import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netdump.pki import IssuedCertificate, OwnCertificate

COLUMNS = ("ROLE", "NAME", "STATE", "ISSUED", "EXPIRES", "FINGERPRINT")


def parse_span(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """The seconds in a time like 12h or 90d; None stays None. Raises click.BadParameter."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value.strip(), re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time: write a number and s, m, h, d or w, as in 90d")
    return int(match[1]) * UNITS[match[2]]


@click.command("certificates", short_help="List the certificates that a collector has issued.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--ending",
    metavar="TIME",
    callback=parse_span,
    help="Only names whose last certificate ends within TIME (90d) or has ended: that one, the next to end first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object; the list is under `certificates`.")
def command(directory: Path, ending: int | None, as_json: bool) -> None:
    """List the certificates issued by the collector whose folder is DIR, newest first.

    Before them come the two that the collector has for itself: its authority's, and its own, with the first of its
    names. `netdump renew --collector` renews its own. In JSON they are `authority` and `collector`, with all names.

    STATE is valid, expired or revoked. A name stands here once for each time it enrolled or renewed. FINGERPRINT is of
    the key, as `netdump revoke --fingerprint` takes it. Records that cannot be read are named on standard error; the
    others are listed all the same.

    With --ending it lists those who do not renew, whose dumps are refused once their last certificate has ended. A name
    whose keys are all revoked is not listed.

    \b
    Examples:
      netdump certificates /srv/netdump
      netdump certificates /srv/netdump --ending 90d

    See also: netdump token, netdump revoke, netdump renew.
    """
    survey = Authority.load(directory).issued()
    now = int(time.time())
    damaged = list(survey.damaged)
    authority = _own(authority_certificate(directory), now)
    try:
        collector = _own(collector_certificate(directory), now)
    except PkiError as error:
        collector = None
        damaged.append(f"{error}; or `netdump renew --collector {directory} --name HOST[,HOST…]` makes another")
    listed = survey.certificates if ending is None else _ending(survey.certificates, now + ending)
    rows = [_fields(each, now) for each in listed]
    if as_json:
        print_json({"authority": authority, "collector": collector, "certificates": rows, "damaged": damaged})
    else:
        shown = [row for row in (authority, collector, *rows) if row is not None]
        print_plain_table([COLUMNS, *([str(row[column.lower()]) for column in COLUMNS] for row in shown)])
    for text in damaged:
        warn(text)


def _ending(certificates: Iterable[IssuedCertificate], moment: int) -> list[IssuedCertificate]:
    """Of each name the last certificate that counts, if it ends before that moment, seconds since 1970."""
    last: dict[tuple[str, str], IssuedCertificate] = {}
    for each in sorted(certificates, key=lambda each: each.not_after):
        if each.revoked is None:
            last[each.role, each.name] = each
    return sorted((each for each in last.values() if each.not_after < moment), key=lambda each: each.not_after)


def _fields(each: IssuedCertificate, now: int) -> dict[str, object]:
    state = "revoked" if each.revoked is not None else _state(each.not_after, now)
    return {
        "role": str(each.role),
        "name": each.name,
        "state": state,
        "issued": timestamp(each.issued),
        "expires": timestamp(each.not_after),
        "revoked": None if not each.revoked else timestamp(each.revoked),
        "fingerprint": each.fingerprint,
        "serial": each.serial,
    }


def _own(each: OwnCertificate, now: int) -> dict[str, object]:
    first, last = (int(moment.timestamp()) for moment in each.validity)
    return {
        "role": each.whose,
        "name": each.names[0] if each.names else "",
        "names": list(each.names),
        "state": _state(last, now),
        "issued": timestamp(first),
        "expires": timestamp(last),
        "fingerprint": each.fingerprint,
    }


def _state(last: int, now: int) -> str:
    return "expired" if now >= last else "valid"
