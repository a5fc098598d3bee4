"""`netdump log`: the kernel log of a dump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netdump.cli.output import print_json, print_text, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.wire import unpack_document

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.index.reading import Catalog


@click.command("log", short_help="Print the kernel log of a dump.", epilog=exit_statuses())
@click.argument("dump_id", metavar="ID")
@reading_options
def command(*, source: Source, dump_id: str, as_json: bool) -> None:
    """Print the kernel log of the dump ID, as dmesg would have.

    The log is the first thing that arrives: it is there when a host managed to connect, even if not one page followed.
    Characters that a terminal would act on are printed as escapes; line feeds and tabs stay. With --json the object has
    the members `id`, `log`, the whole text as one string, and `log_truncated`: whether it is known to lack lines.

    \b
    Examples:
      netdump log 3f2a
      netdump log 3f2a --root /srv/netdump | grep -i oom
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        log = catalog.log(record.id)
        is_truncated = bool(log) and lacks_lines(catalog, record.id)
    if is_truncated:
        warn(f"the kernel log of dump {record.id} lacks lines, which were too many, lost or damaged")
    if as_json:
        print_json({"id": record.id, "log": log.decode("utf-8", "replace"), "log_truncated": is_truncated})
        return
    if not log:
        remark = f"; its remark: {record.remark}" if record.remark else ""
        warn(f"dump {record.id} has no kernel log: the host sent none, or has not come that far{remark}")
    print_text(log)


def lacks_lines(catalog: Catalog, dump_id: str) -> bool:
    """Whether the host said so."""
    raw = catalog.headline(dump_id)
    return raw is not None and bool(unpack_document(raw).log_truncated)
