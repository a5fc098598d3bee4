"""Options that say which dumps are meant (--host, --state, --since, --until, --drills), and all of those.

Owns how far a collector's list is believed.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import wraps
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any, Final

import click

from netdump.errors import BadNameError, RemoteError
from netdump.index.reading import LIST_LIMIT_MAX, Query, every
from netdump.index.record import State, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netdump.index.reading import Catalog
    from netdump.index.record import DumpRecord

LISTED_MAX: Final = 1_000_000
"""The most dumps that are believed of a collector: an index of 430 MB, a thousand crashes a day for three years."""
EVERYTHING: Final = Query()
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dumps are meant. until: first seen before this time, seconds since 1970; None for any."""

    query: Query = EVERYTHING
    until: int | None = None

    @property
    def nothing(self) -> str:
        """What to say where no dumps are meant. WEB1 and web1 are two hosts: neither may send the other's dumps."""
        if self.query.host is None:
            return "no such dumps"
        return f"no such dumps of {self.query.host}: upper and lower case count in the name of a host"

    def list(self, catalog: Catalog, limit: int | None = None) -> list[DumpRecord]:
        """The dumps that are meant, newest first, asked for page by page. limit: None for all.

        Raises RemoteError for a list that has no end, or has others in it.
        """
        until = self.until
        in_a_page = LIST_LIMIT_MAX if limit is None or until is not None else min(LIST_LIMIT_MAX, limit)
        listed = _believed(newest_first(every(catalog.list, self.query._replace(limit=in_a_page))))
        if until is not None:
            listed = dropwhile(lambda record: record.first_seen >= until, listed)
        return [self._checked(record) for record in islice(listed, limit)]

    def _checked(self, record: DumpRecord) -> DumpRecord:
        """The same dump. Raises RemoteError if it is not meant: it may be asked for to be deleted."""
        query = self.query
        is_its = query.host in {None, record.host} and query.state in {None, record.state}
        if is_its and record.first_seen >= (query.since or 0) and query.drill in {None, record.drill}:
            return record
        raise RemoteError(
            f"the collector does not answer as one does: dump {record.id} was not asked for; "
            "it may be of another version"
        )


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --host, --state, --since, --until and --drills; it gets them as `selection`."""

    @click.option(
        "--host",
        metavar="NAME",
        callback=parse_host,
        help="Only of this host, as its certificate names it: case counts.",
    )
    @click.option("--state", type=click.Choice([state.value for state in State]), help="Only in this state.")
    @click.option(
        "--since",
        metavar="TIME",
        callback=parse_when,
        help="Only first seen at or after TIME (2026-01-31T12:00, UTC unless a zone follows), or so long ago (24h).",
    )
    @click.option("--until", metavar="TIME", callback=parse_when, help="Only first seen before TIME, or longer ago.")
    @click.option(
        "--drills/--no-drills", "drill", default=None, help="Only drills, or all but drills.  [default: both]"
    )
    @wraps(function)
    def with_selection(
        host: str | None,
        state: str | None,
        since: int | None,
        until: int | None,
        drill: bool | None,
        **options: Any,
    ) -> Any:
        query = Query(host=host, state=None if state is None else State(state), since=since, drill=drill)
        return function(selection=Selection(query, until), **options)

    return with_selection


def parse_host(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A name that a host can have: of an empty one, as of a variable that is not set, no dumps are meant, nor all.

    Raises click.BadParameter.
    """
    if value is None:
        return None
    from netdump.pki.names import check_name  # noqa: PLC0415

    try:
        return check_name(value)
    except BadNameError as error:
        raise click.BadParameter(str(error)) from None


def parse_when(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
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


def _believed(records: Iterable[DumpRecord]) -> Iterator[DumpRecord]:
    """The same dumps. Raises RemoteError where they are more than any collector has."""
    for number, record in enumerate(records):
        if number == LISTED_MAX:
            raise RemoteError(
                f"the list goes on after {LISTED_MAX:,} dumps, more than any collector is believed to have: "
                "ask for fewer with --host, --state, --since or --limit"
            )
        yield record
