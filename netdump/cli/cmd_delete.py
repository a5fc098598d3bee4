"""`netdump delete`: delete a dump for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_json, printable, size_text
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import BusyError
from netdump.index.record import time_text

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.index.record import DumpRecord


@click.command("delete", short_help="Delete a dump for good.", epilog=exit_statuses(BusyError))
@click.argument("dump_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reading_options
def command(*, source: Source, dump_id: str, yes: bool, as_json: bool) -> None:
    """Delete the dump ID for good: all that is stored of it, its log and receipt included.

    Asks first, on a terminal; elsewhere --yes is needed. From afar it takes a certificate of the role operator. A dump
    that is arriving is not deleted. It is gone when the command returns, and after a crash in between either all of it
    is there or nothing.

    \b
    Examples:
      netdump delete 3f2a
      netdump delete 3f2a --yes --root /srv/netdump --json
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        if not yes:
            _ask(record)
        catalog.delete(record.id)
    if as_json:
        print_json({"id": record.id, "deleted": True})
    else:
        click.echo(f"deleted dump {record.id}")


def _ask(record: DumpRecord) -> None:
    """Raises click.Abort unless the user agrees, click.UsageError if nobody can be asked."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: say --yes to delete the dump for good")
    what = (
        f"{record.id}\n  of {printable(record.host)}, {time_text(record.first_seen)}, {size_text(record.image_bytes)}"
    )
    click.echo(f"{what}\n  {printable(record.panic or 'no panic line')}", err=True)
    click.confirm("Delete it for good?", abort=True, err=True)
