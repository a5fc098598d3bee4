"""`netdump pages`. What is counted how is tested in tests/analyze/test_frames.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import pytest

from netdump.analyze.frames import FrameMap
from netdump.cli.output import FetchProgress
from netdump.errors import BadHeadersError, DamagedError, DumpNotFoundError
from netdump.index.catalog import LocalCatalog
from netdump.store.store import Store
from netdump.store.totals import Totals
from tests.analyze.test_frames import DUMP
from tests.cli.collector import WHOLE, fill

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell

ID = DUMP.id


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder / "dumps", clock=lambda: 1_795_377_850)


def test_counts(shell: Shell, folder: Path, store: Store) -> None:
    DUMP.store(store)
    done = shell.run("pages", ID[:8], "--root", folder)
    assert (done.status, done.err) == (0, "")
    lines = {line[:10].rstrip(): line[12:] for line in done.out.splitlines()}
    assert lines == {
        "dump": f"{ID}, complete",
        "page": "4,096 bytes",
        "data": "10 frames, 40.0 KiB (40,960 bytes)",
        "zero": "5 frames, 19.0 KiB (19,456 bytes)",
        "alias": "4 frames, 16.0 KiB (16,384 bytes)",
        "excluded": "4 frames, 16.0 KiB (16,384 bytes)",
        "  zero": "1 frames, 4.0 KiB (4,096 bytes)",
        "  cache": "1 frames, 4.0 KiB (4,096 bytes)",
        "  free": "2 frames, 8.0 KiB (8,192 bytes)",
        "lost": "1 frames, 4.0 KiB (4,096 bytes)",
        "absent": "7 frames, 28.0 KiB (28,672 bytes)",
        "not memory": "5.0 KiB (5,120 bytes)",
        "image": "100.0 KiB (102,400 bytes)",
    }


@pytest.mark.parametrize(
    ("asked", "ranges"),
    [
        ("data", ["1-2", "203-206", "208-208", "20d-20d", "20f-20f", "400-400"]),
        ("zero", ["3-3", "200-202", "207-207"]),
        ("alias", ["203-206"]),
        ("excluded", ["209-20c"]),
        ("excluded:zero", ["20c-20c"]),
        ("excluded:free", ["20a-20b"]),
        ("free", ["20a-20b"]),
        ("user", []),
        ("lost", ["20e-20e"]),
        ("absent", ["401-407"]),
    ],
)
def test_lists(shell: Shell, folder: Path, store: Store, asked: str, ranges: list[str]) -> None:
    DUMP.store(store)
    done = shell.run("pages", ID, "--root", folder, "--list", asked)
    assert (done.status, done.out.splitlines()) == (0, ranges)
    listed = shell.run("pages", ID, "--root", folder, "--list", asked, "--json").object
    pairs = [[int(end, 16) for end in line.split("-")] for line in ranges]
    kind = {"free": "excluded:free", "user": "excluded:user"}.get(asked, asked)
    assert listed == {"id": ID, "page_bytes": 4096, "list": kind, "ranges": pairs}


@pytest.mark.parametrize("as_json", [False, True])
def test_millions_of_ranges_are_not_written_one_by_one(
    shell: Shell, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    DUMP.store(store)
    many = 10_000
    monkeypatch.setattr(FrameMap, "ranges", lambda *_: (("lost", 2 * at, 2 * at + 1) for at in range(many)))
    printed: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text, **_: printed.append(text))
    shell.run("pages", ID, "--root", folder, "--list", "lost", *(["--json"] if as_json else []))
    assert len(printed) < many // 1000
    if as_json:
        assert json.loads("".join(printed))["ranges"] == [[2 * at, 2 * at] for at in range(many)]
    else:
        assert "".join(printed).splitlines() == [f"{2 * at:x}-{2 * at:x}" for at in range(many)]


def test_json(shell: Shell, folder: Path, store: Store) -> None:
    DUMP.store(store)
    counted = shell.run("pages", ID, "--root", folder, "--json").object
    assert counted["frames"]["excluded:free"] == 2
    assert counted["bytes"]["alias"] == 16384
    assert (counted["complete"], counted["arrived_bytes"], counted["not_memory_bytes"]) == (True, 102_400, 5120)


def test_an_incomplete_dump(shell: Shell, folder: Path, store: Store) -> None:
    DUMP.store(store, chunks=2)
    done = shell.run("pages", ID, "--root", folder)
    assert "not arrived  60.0 KiB (61,440 bytes)\n" in done.out
    assert "the dump is not complete: 61,440 bytes of the image have not arrived" in done.err
    assert shell.run("pages", ID, "--root", folder, "--list", "lost").out == ""


def test_without_headers_nothing_is_known(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("pages", WHOLE.id, "--root", folder)
    assert (done.status, "its page frames are not known" in done.err) == (BadHeadersError.exit_status, True)


def test_without_the_size_of_pages_nothing_is_known(
    shell: Shell, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a record is of a dump that could not be read a moment ago, or of a collector that means harm."""
    DUMP.store(store)
    show = LocalCatalog.show
    monkeypatch.setattr(LocalCatalog, "show", lambda self, dump_id: replace(show(self, dump_id), page_bytes=0))
    done = shell.run("pages", ID, "--root", folder)
    assert (done.status, "the size of the pages" in done.err) == (BadHeadersError.exit_status, True)


def test_a_choice_that_is_none(shell: Shell, folder: Path, store: Store) -> None:
    DUMP.store(store)
    assert shell.run("pages", ID, "--root", folder, "--list", "lots").status == 2
    assert shell.run("pages", "ffff", "--root", folder).status == DumpNotFoundError.exit_status


def test_tables_that_are_not_the_manifests(
    shell: Shell, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    DUMP.store(store)
    shell.run("show", ID, "--root", folder)
    add = Totals.add_chunk

    def add_wrongly(self: Totals, table: bytes, frame_bytes: int) -> None:
        add(self, table, frame_bytes)
        self.lost += 1

    monkeypatch.setattr(Totals, "add_chunk", add_wrongly)
    done = shell.run("pages", ID, "--root", folder, "--json")
    assert (done.status, json.loads(done.out)["error"]["code"]) == (DamagedError.exit_status, "damaged")


def test_what_is_to_be_read_is_what_has_arrived(
    shell: Shell, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    DUMP.store(store, chunks=2)
    asked: list[int] = []
    monkeypatch.setattr(FetchProgress, "begin", lambda _self, total, *_rest, **_options: asked.append(total))
    arrived = shell.run("pages", ID, "--root", folder, "--json").object["arrived_bytes"]
    assert asked == [arrived, arrived] != [len(DUMP.image)] * 2
