"""`netdump list`."""

from __future__ import annotations

import time
from itertools import count, islice
from typing import TYPE_CHECKING, cast

import click
import pytest

from netdump.cli.cmd_list import command, list_all, newest_first, parse_since
from netdump.errors import ConfigMissingError, IndexFaultError, NotACollectorError, RemoteError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query, every
from netdump.index.record import DumpRecord, State
from netdump.store.store import Store
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import PANIC, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.reading import Catalog
    from tests.cli.commands import Shell


def test_newest_first(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("list", "--root", folder)
    assert done.status == 0
    header, half, whole = done.out.splitlines()
    assert header.split() == ["ID", "HOST", "STATE", "SIZE", "FIRST", "SEEN", "(UTC)", "PANIC"]
    assert half.startswith(f"{HALF.id[:12]}  web2  interrupted 62% (drill)")
    assert whole.startswith(f"{WHOLE.id[:12]}  web1  complete")
    assert "256.0 KiB" in whole
    assert "2026-11-22 20:03:59" in whole
    assert whole.endswith(PANIC)


def test_json(shell: Shell, folder: Path) -> None:
    fill(folder)
    dumps = shell.run("list", "--root", folder, "--json").object["dumps"]
    assert [(dump["id"], dump["state"]) for dump in dumps] == [(HALF.id, "interrupted"), (WHOLE.id, "complete")]
    assert dumps[1]["panic"] == PANIC
    assert dumps[1]["first_seen"] == "2026-11-22T20:03:59Z"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host", "web1"], [WHOLE.id]),
        (["--state", "interrupted"], [HALF.id]),
        (["--state", "arriving"], []),
        (["--since", "2026-11-22T20:05:00Z"], [HALF.id]),
        (["--since", "2026-11-22"], [HALF.id, WHOLE.id]),
        (["--limit", "1"], [HALF.id]),
        (["--drills"], [HALF.id]),
        (["--no-drills"], [WHOLE.id]),
    ],
)
def test_choices(shell: Shell, folder: Path, options: list[str], expected: list[str]) -> None:
    fill(folder)
    dumps = shell.run("list", "--root", folder, "--json", *options).object["dumps"]
    assert [dump["id"] for dump in dumps] == expected


def test_nothing_is_said_on_standard_error(shell: Shell, folder: Path) -> None:
    (folder / "dumps").mkdir()
    done = shell.run("list", "--root", folder)
    assert (done.status, done.out, done.err) == (0, "", "netdump: no dumps\n")
    assert shell.run("list", "--root", folder, "--host", "x").err == "netdump: no such dumps\n"
    assert shell.run("list", "--root", folder, "--json").object == {"dumps": []}


def test_all_pages_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.cli.cmd_list.LIST_LIMIT_MAX", 2)
    store = Store(folder / "dumps")
    for number in range(1, 6):
        Sample(pages=8, number=number, created=1000 + number).store(store, chunks=0)
    with LocalCatalog(folder) as catalog:
        assert [dump.id[0] for dump in list_all(catalog, Query(), None)] == ["5", "4", "3", "2", "1"]
        assert [dump.id[0] for dump in list_all(catalog, Query(), 3)] == ["5", "4", "3"]
        assert [dump.id[0] for dump in list_all(catalog, Query(), 4)] == ["5", "4", "3", "2"]


def test_a_list_without_end_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a collector which has one more dump, a little older, whenever it is asked."""
    monkeypatch.setattr("netdump.cli.cmd_list.LISTED_MAX", 5)
    monkeypatch.setattr("netdump.cli.cmd_list.LIST_LIMIT_MAX", 2)
    made = count()

    class Endless:
        def list(self, query: Query) -> list[DumpRecord]:
            return [
                DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 10**9 - number, 1)
                for number in islice(made, query.limit)
            ]

    endless = cast("Catalog", Endless())
    with pytest.raises(RemoteError, match="goes on after 5 dumps"):
        list_all(endless, Query(), None)
    assert next(made) == 6
    assert len(list_all(endless, Query(), 7)) == 7, "who asks for so many gets them"


@pytest.mark.parametrize("times", [[9, 9, 9], [9, 8, 7], [9, 8, 8]])
def test_a_list_that_goes_round_in_circles_comes_to_an_end(times: list[int]) -> None:
    """As that of a collector that overlooks from where it is to go on."""
    ids = [f"{when:031x}{at}" for at, when in enumerate(times)]
    records = [DumpRecord(each, "a", State.COMPLETE, 1, 4096, 0, int(each[:-1], 16), 1) for each in ids]
    listed = newest_first(every(lambda _: records, Query(limit=len(records))))
    assert [*islice(listed, len(records))] == records
    with pytest.raises(RemoteError, match=f"dump {ids[0]} stands where only older ones follow"):
        next(listed)


def test_ages_and_times() -> None:
    context = click.Context(command)
    option = command.params[2]
    assert parse_since(context, option, None) is None
    assert parse_since(context, option, "1970-01-02") == 86400
    ago = parse_since(context, option, "2h")
    assert ago is not None
    assert abs(time.time() - 7200 - ago) < 5
    for wrong in ("yesterday", "5", "h", "-3h", ""):
        with pytest.raises(click.BadParameter):
            parse_since(context, option, wrong)


def test_no_collector_no_bundle_no_index(
    shell: Shell, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shell.run("list", "--root", tmp_path)
    assert (done.status, str(tmp_path) in done.err) == (NotACollectorError.exit_status, True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("NETDUMP_CONFIG", raising=False)
    done = shell.run("list")
    assert done.status == ConfigMissingError.exit_status
    assert "netdump enroll" in done.err
    fill(folder)
    (folder / "index.sqlite").write_bytes(b"x" * 5000)
    done = shell.run("list", "--root", folder)
    assert (done.status, f"netdump reindex {folder}" in done.err) == (IndexFaultError.exit_status, True)
