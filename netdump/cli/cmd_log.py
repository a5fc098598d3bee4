"""`netdump log`: the kernel log of a dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_json, print_text, warn
from netdump.cli.reading import exit_statuses, reading_options

if TYPE_CHECKING:
    from netdump.cli.reading import Source


@click.command("log", short_help="Print the kernel log of a dump.", epilog=exit_statuses())
@click.argument("dump_id", metavar="ID")
@reading_options
def command(*, source: Source, dump_id: str, as_json: bool) -> None:
    """Print the kernel log of the dump ID, as dmesg would have.

    The log is the first thing that arrives: it is there when a host managed to connect, even if not one page followed.
    Characters that a terminal would act on are printed as escapes; line feeds and tabs stay. With --json the object has
    the members `id` and `log`, the whole text as one string.

    \b
    Examples:
      netdump log 3f2a
      netdump log 3f2a --root /srv/netdump | grep -i oom
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        log = catalog.log(record.id)
    if as_json:
        print_json({"id": record.id, "log": log.decode("utf-8", "replace")})
        return
    if not log:
        warn(f"dump {record.id} has no kernel log: the host sent none, or has not come that far")
    print_text(log)
