"""Which dumps are meant."""

from __future__ import annotations

import time
from itertools import count, islice
from typing import TYPE_CHECKING, cast

import click
import pytest

from netdump.cli.selection import Selection, newest_first, parse_host, parse_when
from netdump.errors import RemoteError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query, every
from netdump.index.record import DumpRecord, State
from netdump.store.store import Store
from tests.index.stored import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.reading import Catalog


def test_all_pages_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.cli.selection.LIST_LIMIT_MAX", 2)
    store = Store(folder / "dumps")
    for number in range(1, 6):
        Sample(pages=8, number=number, created=1000 + number).store(store, chunks=0)
    with LocalCatalog(folder) as catalog:
        assert [dump.id[0] for dump in Selection().list(catalog)] == ["5", "4", "3", "2", "1"]
        assert [dump.id[0] for dump in Selection().list(catalog, 3)] == ["5", "4", "3"]
        assert [dump.id[0] for dump in Selection().list(catalog, 4)] == ["5", "4", "3", "2"]
        assert [dump.id[0] for dump in Selection(until=1003).list(catalog)] == ["2", "1"]
        assert [dump.id[0] for dump in Selection(until=1003).list(catalog, 1)] == ["2"]
        assert Selection(until=1001).list(catalog) == []


def test_a_list_without_end_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a collector which has one more dump, a little older, whenever it is asked."""
    monkeypatch.setattr("netdump.cli.selection.LISTED_MAX", 5)
    monkeypatch.setattr("netdump.cli.selection.LIST_LIMIT_MAX", 2)
    made = count()

    class Endless:
        def list(self, query: Query) -> list[DumpRecord]:
            return [
                DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 10**9 - number, 1)
                for number in islice(made, query.limit)
            ]

    endless = cast("Catalog", Endless())
    with pytest.raises(RemoteError, match="goes on after 5 dumps"):
        Selection().list(endless)
    assert next(made) == 6
    assert len(Selection().list(endless, 5)) == 5, "who asks for so many gets them"


@pytest.mark.parametrize("times", [[9, 9, 9], [9, 8, 7], [9, 8, 8]])
def test_a_list_that_goes_round_in_circles_comes_to_an_end(times: list[int]) -> None:
    """As that of a collector that overlooks from where it is to go on."""
    ids = [f"{when:031x}{at}" for at, when in enumerate(times)]
    records = [DumpRecord(each, "a", State.COMPLETE, 1, 4096, 0, int(each[:-1], 16), 1) for each in ids]
    listed = newest_first(every(lambda _: records, Query(limit=len(records))))
    assert [*islice(listed, len(records))] == records
    with pytest.raises(RemoteError, match=f"dump {ids[0]} stands where only older ones follow"):
        next(listed)


@pytest.mark.parametrize("query", [Query(host="b"), Query(state=State.DAMAGED), Query(since=10), Query(drill=True)])
def test_dumps_that_were_not_asked_for(query: Query) -> None:
    """Of a collector that knows less than this command; what a list shows is what `netdump delete` deletes."""

    class Deaf:
        def list(self, _: Query) -> list[DumpRecord]:
            return [DumpRecord("0" * 32, "a", State.COMPLETE, 1, 4096, 0, 9, 1)]

    with pytest.raises(RemoteError, match="was not asked for"):
        Selection(query).list(cast("Catalog", Deaf()))


def test_names_of_hosts() -> None:
    option = click.Option(["--host"])
    context = click.Context(click.Command("list"))
    assert parse_host(context, option, None) is None
    assert parse_host(context, option, "web_1.example") == "web_1.example"
    for wrong in ("", " ", "\udcff", "a/b"):
        with pytest.raises(click.BadParameter, match="cannot be a name"):
            parse_host(context, option, wrong)


def test_ages_and_times() -> None:
    option = click.Option(["--since"])
    context = click.Context(click.Command("list"))
    assert parse_when(context, option, None) is None
    assert parse_when(context, option, "1970-01-02") == 86400
    ago = parse_when(context, option, "2h")
    assert ago is not None
    assert abs(time.time() - 7200 - ago) < 5
    for wrong in ("yesterday", "5", "h", "-3h", ""):
        with pytest.raises(click.BadParameter):
            parse_when(context, option, wrong)
