"""`netdump list`: which dumps there are."""

from __future__ import annotations

import re
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from netdump.cli.output import ID_DIGITS, print_json, print_table, share_text, size_text, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import RemoteError
from netdump.index.reading import LIST_LIMIT_MAX, Query, every, list_json
from netdump.index.record import State, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netdump.cli.reading import Source
    from netdump.index.reading import Catalog
    from netdump.index.record import DumpRecord

COLUMNS: Final = ("ID", "HOST", "STATE", "SIZE", "FIRST SEEN (UTC)", "PANIC")
LISTED_MAX: Final = 1_000_000
"""The most dumps that are believed of a collector: an index of 430 MB, a thousand crashes a day for three years."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_since(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Seconds since 1970 of a time, or of so long ago. Raises click.BadParameter."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value.strip())
    if match is not None:
        return max(0, int(time.time()) - int(match[1]) * UNITS[match[2]])
    try:
        return parse_time(value.strip())
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a time (2026-01-31, 2026-01-31T12:00:00Z) nor an age (90m, 24h, 7d)"
        ) from None


@click.command(
    "list",
    short_help="List dumps, newest first.",
    epilog=exit_statuses(),
)
@click.option("--host", metavar="NAME", help="Only of this host, as it is named in its certificate.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only in this state.")
@click.option("--since", metavar="TIME", callback=parse_since, help="Only first seen at or after TIME, or so long ago.")
@click.option("--drills/--no-drills", "drill", default=None, help="Only drills, or all but drills.  [default: both]")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.  [default: all]")
@reading_options
def command(
    *,
    source: Source,
    host: str | None,
    state: str | None,
    since: int | None,
    drill: bool | None,
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
      netdump list --no-drills
      netdump list --root /srv/netdump --limit 5
    """
    wanted = Query(host=host, state=None if state is None else State(state), since=since, drill=drill)
    with source.open() as catalog:
        records = list_all(catalog, wanted, limit)
    if as_json:
        print_json(list_json(records))
    elif records:
        print_table(COLUMNS, [row(record) for record in records])
    else:
        warn("no dumps" if wanted == Query() else "no such dumps")


def list_all(catalog: Catalog, query: Query, limit: int | None) -> list[DumpRecord]:
    """The dumps that a query asks for, page by page. limit: None for all. RemoteError: there is no end."""
    in_a_page = LIST_LIMIT_MAX if limit is None else min(LIST_LIMIT_MAX, limit)
    listed = newest_first(every(catalog.list, query._replace(limit=in_a_page)))
    records = [*islice(listed, LISTED_MAX + 1 if limit is None else limit)]
    if limit is None and len(records) > LISTED_MAX:
        raise RemoteError(
            f"the list goes on after {LISTED_MAX:,} dumps, more than any collector is believed to have: "
            "ask for fewer with --host, --since or --state, or say how many with --limit"
        )
    return records


def newest_first(records: Iterable[DumpRecord]) -> Iterator[DumpRecord]:
    """The same dumps. Raises RemoteError where they do not come newest first: such a list may go round in circles."""
    second, known = None, set[str]()  # first_seen of the latest, and the dumps of that second so far
    for record in records:
        if second is None or record.first_seen < second:
            second, known = record.first_seen, set()
        if record.first_seen > second or record.id in known:
            raise RemoteError(
                f"the collector does not answer as one does: dump {record.id} stands where only older ones follow; "
                "it may be of another version"
            )
        known.add(record.id)
        yield record


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
