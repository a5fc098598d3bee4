"""`netdump certificates`: what was issued, and whether it still counts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_plain_table
from netdump.errors import PkiError
from netdump.pki import Authority, authority_certificate, collector_certificate
from netdump.pki.record import timestamp

if TYPE_CHECKING:
    from netdump.pki import IssuedCertificate, OwnCertificate

COLUMNS = ("ROLE", "NAME", "STATE", "ISSUED", "EXPIRES", "FINGERPRINT")


@click.command("certificates", short_help="List the certificates that a collector has issued.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print an object; the list is under `certificates`.")
def command(directory: Path, as_json: bool) -> None:
    """List the certificates issued by the collector whose folder is DIR, newest first.

    Before them come the two that the collector has for itself: its authority's, and its own, with the first of its
    names. `netdump renew --collector` renews its own. In JSON they are `authority` and `collector`, with all names.

    STATE is valid, expired or revoked. A name stands here once for each time it enrolled or renewed. FINGERPRINT is of
    the key, as `netdump revoke --fingerprint` takes it. Records that cannot be read are named on standard error; the
    others are listed all the same.

    \b
    Example:
      netdump certificates /srv/netdump

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
    rows = [_fields(each, now) for each in survey.certificates]
    if as_json:
        fields = {"authority": authority, "collector": collector, "certificates": rows, "damaged": damaged}
        click.echo(json.dumps(fields, indent=2))
    else:
        shown = [row for row in (authority, collector, *rows) if row is not None]
        print_plain_table([COLUMNS, *([str(row[column.lower()]) for column in COLUMNS] for row in shown)])
    for text in damaged:
        click.echo(f"netdump: {text}", err=True)


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
