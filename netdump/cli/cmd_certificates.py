"""`netdump certificates`: what was issued, and whether it still counts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_plain_table
from netdump.pki import Authority
from netdump.pki.record import timestamp

if TYPE_CHECKING:
    from netdump.pki import IssuedCertificate

COLUMNS = ("ROLE", "NAME", "STATE", "ISSUED", "EXPIRES", "FINGERPRINT")


@click.command("certificates", short_help="List the certificates that a collector has issued.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print an object; the list is under `certificates`.")
def command(directory: Path, as_json: bool) -> None:
    """List the certificates issued by the collector whose folder is DIR, newest first.

    STATE is valid, expired or revoked. A name stands here once for each time it enrolled or renewed. FINGERPRINT is of
    the key, as `netdump revoke --fingerprint` takes it. Records that cannot be read are named on standard error; the
    others are listed all the same.

    \b
    Example:
      netdump certificates /srv/netdump

    See also: netdump token, netdump revoke.
    """
    survey = Authority.load(directory).issued()
    now = int(time.time())
    rows = [_fields(each, now) for each in survey.certificates]
    if as_json:
        click.echo(json.dumps({"certificates": rows, "damaged": list(survey.damaged)}, indent=2))
    else:
        print_plain_table([COLUMNS, *([str(row[column.lower()]) for column in COLUMNS] for row in rows)])
    for text in survey.damaged:
        click.echo(f"netdump: {text}", err=True)


def _fields(each: IssuedCertificate, now: int) -> dict[str, str | None]:
    state = "revoked" if each.revoked is not None else "expired" if now >= each.not_after else "valid"
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
