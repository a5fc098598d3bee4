"""`netdump delete`: delete dumps for good."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from netdump.cli.output import print_json, printable, size_text, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.cli.selection import Selection, selection_options
from netdump.errors import BusyError, DamagedError, DumpNotFoundError, StorageFaultError
from netdump.index.record import State, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from netdump.cli.reading import Source
    from netdump.errors import NetdumpError
    from netdump.index.reading import Catalog
    from netdump.index.record import DumpRecord

FIRST_YEAR: Final = "2026"
FIRST_SEEN_MIN: Final = parse_time(f"{FIRST_YEAR}-01-01T00:00:00Z")
"""Seconds since 1970. There was no collector before: what seems older came while the clock of one was wrong."""


@click.command("delete", short_help="Delete dumps for good.", epilog=exit_statuses(BusyError, StorageFaultError))
@click.argument("dump_ids", metavar="[ID]...", nargs=-1)
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@reading_options
def command(*, source: Source, dump_ids: tuple[str, ...], selection: Selection, yes: bool, as_json: bool) -> int:
    """Delete dumps for good: all that is stored of them, their logs and receipts included.

    Name them by ID, or choose them by the options of `netdump list`, which shows with the same options what would be
    deleted.

    Asks first, on a terminal; elsewhere --yes is needed. From afar it takes a certificate of the role operator. A dump
    that is arriving is not deleted, nor one whose files cannot be removed, nor one that `--state interrupted` found and
    its host has completed since; the others are. Each is gone when the command says so, and after a crash in between
    either all of it is there or nothing. What came while the collector's clock was wrong, and so seems older than
    netdump is, --until leaves there.

    With --json an object is printed whose member `dumps` lists the `id` of each dump that was meant, and whether it was
    `deleted`.

    \b
    Examples:
      netdump delete 3f2a
      netdump delete --drills --until 1d
      netdump delete --state complete --until 90d --yes --root /srv/netdump --json
    """
    if bool(dump_ids) == (selection != Selection()):
        raise click.UsageError("say which dumps: by ID, or by options such as --until 90d; not by both")
    with source.open() as catalog:
        meant = [*_named(catalog, dump_ids)] if dump_ids else _old_enough(selection, selection.list(catalog))
        if meant and not yes:
            _ask(meant)
        left = _delete(catalog, meant, selection.query.state, tell=not as_json)
    if as_json:
        print_json({"dumps": [{"id": record.id, "deleted": record.id not in left} for record in meant]})
    elif not meant:
        warn(selection.nothing)
    for error in left.values():
        warn(str(error))
    return max((error.exit_status for error in left.values()), default=0)


def _named(catalog: Catalog, dump_ids: Iterable[str]) -> Iterable[DumpRecord]:
    """Each once."""
    return {record.id: record for record in map(catalog.show, dump_ids)}.values()


def _old_enough(selection: Selection, listed: Sequence[DumpRecord]) -> list[DumpRecord]:
    """Those that a selection means, but for those whose age it asks for and nobody knows; says how many these are."""
    meant = [record for record in listed if selection.until is None or record.first_seen >= FIRST_SEEN_MIN]
    if len(meant) < len(listed):
        warn(
            f"{len(listed) - len(meant):,} of the dumps stay: they came while the collector's clock was wrong, as they "
            f"seem older than {FIRST_YEAR}, and their age is not known; see `netdump list --until {FIRST_YEAR}-01-01`, "
            "and delete them by ID"
        )
    return meant


def _delete(
    catalog: Catalog, meant: Sequence[DumpRecord], state: State | None, *, tell: bool
) -> dict[str, NetdumpError]:
    """Delete them, but for those that are arriving or in use, or that cannot be removed, which are returned by id, with
    what was said of them: one of which a file belongs to somebody else must not keep all that are older.

    state: that they are meant for. One that is complete by now is not meant, if it was not: its host came back.
    """
    left: dict[str, NetdumpError] = {}
    for record in meant:
        try:
            with suppress(DumpNotFoundError):  # somebody else was faster
                if state in {State.ARRIVING, State.INTERRUPTED}:
                    _refuse_completed(catalog, record)
                catalog.delete(record.id)
        except (BusyError, StorageFaultError) as error:
            left[record.id] = error
            continue
        if tell:
            click.echo(f"deleted dump {record.id}")
    return left


def _refuse_completed(catalog: Catalog, record: DumpRecord) -> None:
    """Raises BusyError if a dump has become complete since it was listed."""
    with suppress(DamagedError):  # of what nobody can make sense it is not
        if catalog.show(record.id).state is State.COMPLETE:
            raise BusyError(f"dump {record.id} was {record.state.value} when it was listed, is complete now, and stays")


def _ask(meant: Sequence[DumpRecord]) -> None:
    """Raises click.Abort unless the user agrees, click.UsageError if nobody can be asked."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: say --yes to delete for good")
    for line in _told(meant):
        click.echo(line, err=True)
    click.confirm("Delete it for good?" if len(meant) == 1 else "Delete them for good?", abort=True, err=True)


def _told(meant: Sequence[DumpRecord]) -> Iterator[str]:
    """What is to be deleted, in some lines."""
    if len(meant) == 1:
        (record,) = meant
        yield record.id
        yield f"  of {printable(record.host)}, {time_text(record.first_seen)}, {size_text(record.image_bytes)}"
        yield f"  {printable(record.panic or 'no panic line')}"
        return
    hosts = len({record.host for record in meant})
    states = Counter(record.state.value for record in meant)
    seen = [record.first_seen for record in meant]
    stored = size_text(sum(record.stored_bytes for record in meant))
    yield f"{len(meant):,} dumps of {hosts:,} host{'s' * (hosts > 1)}, {stored} of segments"
    yield f"  first seen {time_text(min(seen))} to {time_text(max(seen))}"
    yield "  " + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
