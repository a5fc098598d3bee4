"""`netdump list`: which dumps there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from netdump.cli.output import ID_DIGITS, print_json, print_table, share_text, size_text, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.cli.selection import LISTED_MAX, Selection, selection_options
from netdump.index.reading import list_json
from netdump.index.record import State, time_text

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.index.record import DumpRecord

COLUMNS: Final = ("ID", "HOST", "STATE", "SIZE", "FIRST SEEN (UTC)", "PANIC")


@click.command(
    "list",
    short_help="List dumps, newest first.",
    epilog=exit_statuses(),
)
@selection_options
@click.option("--limit", metavar="N", type=click.IntRange(1, LISTED_MAX), help="At most so many.  [default: all]")
@reading_options
def command(
    *,
    source: Source,
    selection: Selection,
    limit: int | None,
    as_json: bool,
) -> None:
    """List dumps, newest first.

    STATE is `arriving` while a host sends it, `complete` when all of it is stored and verified, `interrupted` when
    nobody sends it and not all of it is there, `damaged` when what is stored is not what it was; `(drill)` stands
    beside it where nothing crashed (`netdump doctor --drill`). SIZE is that of the image. PANIC is the line of the
    kernel log that says why the machine died. Any command takes an ID, shortened to 4 digits or more as long as only
    one dump begins with them.

    With --json an object is printed whose member `dumps` is the list; each dump is an object with `id`, `host`,
    `state`, `panic`, times in RFC 3339 and sizes in bytes.

    \b
    Examples:
      netdump list
      netdump list --host web1 --since 24h
      netdump list --state interrupted --json
      netdump list --no-drills --until 90d
      netdump list --root /srv/netdump --limit 5
    """
    with source.open() as catalog:
        records = selection.list(catalog, limit)
    if as_json:
        print_json(list_json(records))
    elif records:
        print_table(COLUMNS, [row(record) for record in records])
    else:
        warn("no dumps" if selection == Selection() else selection.nothing)


def row(record: DumpRecord) -> tuple[str, ...]:
    """One line of the table."""
    state: str = record.state.value
    if record.state in {State.ARRIVING, State.INTERRUPTED}:
        state += f" {share_text(record.durable_bytes, record.image_bytes)}"
    if record.drill:
        state += " (drill)"
    seen = (time_text(record.first_seen) or "").replace("T", " ").removesuffix("Z")
    host = record.host or "?"
    return record.id[:ID_DIGITS], host, state, size_text(record.image_bytes), seen, record.panic or "-"
