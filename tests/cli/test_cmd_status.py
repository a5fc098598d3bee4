"""`netdump status`."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netdump.server.status import StatusFile, Trouble
from tests.server.test_status import STATUS, held

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.commands import Shell

WELL = replace(STATUS, troubles=())


@pytest.fixture
def running(folder: Path) -> Iterator[Path]:
    """A folder that a collector holds."""
    (folder / "dumps").mkdir()
    with held(folder):
        yield folder


def say(folder: Path, **changes: Any) -> None:
    now = int(time.time())
    StatusFile(folder).write(replace(WELL, **{"started": now - 7200, "written": now, **changes}))


def test_all_is_well(shell: Shell, running: Path) -> None:
    say(running)
    done = shell.run("status", running)
    assert done.status == 0
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert rows["version"] == "0.1.0, process 17"
    assert rows["dumps"] == "3 complete; 4.0 TiB"
    assert rows["room"] == "5 bytes of 10 bytes are free (50%)"
    assert "0.0.0.0:7461 for dumps, [::]:7462 for the rest" in done.out
    assert "(2h00m)" in done.out
    assert done.out.endswith("all is well\n")


def test_what_somebody_should_see_to(shell: Shell, running: Path) -> None:
    say(running, troubles=(Trouble("space", "none\x1b[2J"), Trouble("damage", "one")), dumps=None, stored_bytes=None)
    done = shell.run("status", running)
    assert done.status == 74
    assert done.out.splitlines()[-2:] == ["space: none\\x1b[2J", "damage: one"]
    assert "dumps " not in done.out.replace("for dumps ", "")
    assert "well" not in done.out


def test_json(shell: Shell, running: Path) -> None:
    say(running, started=1_796_000_000, troubles=(Trouble("space", "none"),))
    done = shell.run("status", running, "--json")
    assert done.status == 74
    fields = done.object
    assert (fields["well"], fields["troubles"]) == (False, [{"topic": "space", "fact": "none"}])
    assert fields["started"] == "2026-11-30T00:53:20Z"
    assert fields["dumps"] == {"complete": 3, "damaged": 0}
    assert (fields["free_bytes"], fields["events"]) == (5, {"dump-complete": 3})


def test_no_collector_runs(shell: Shell, folder: Path) -> None:
    (folder / "dumps").mkdir()
    done = shell.run("status", folder)
    assert done.status == 74
    assert done.out.startswith(f"running: no collector runs on {folder}")
    fields = shell.run("status", folder, "--json").object
    assert fields["well"] is False
    assert {name for name, value in fields.items() if value is not None} == {"well", "troubles"}


def test_a_folder_that_is_no_collectors(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("status", tmp_path)
    assert done.status == 71
    assert "netdump init" in done.err


def test_metrics_are_written_whole_for_everybody(shell: Shell, running: Path, tmp_path: Path) -> None:
    say(running, troubles=(Trouble("space", "none"),))
    place = tmp_path / "node" / "netdump.prom"
    place.parent.mkdir()
    place.write_text("old")
    done = shell.run("status", running, "--metrics", place)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert 'netdump_trouble{topic="space"} 1.0\n' in place.read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert list(place.parent.iterdir()) == [place]
    printed = shell.run("status", running, "--metrics", "-")
    assert printed.out == place.read_text()


def test_metrics_of_a_collector_that_does_not_run(shell: Shell, folder: Path) -> None:
    (folder / "dumps").mkdir()
    done = shell.run("status", folder, "--metrics", "-")
    assert done.status == 0
    assert "netdump_up 0.0\n" in done.out


def test_metrics_that_cannot_be_written(shell: Shell, running: Path, tmp_path: Path) -> None:
    say(running)
    done = shell.run("status", running, "--metrics", tmp_path / "nowhere" / "netdump.prom")
    assert done.status == 82
    assert "netdump.prom cannot be written: No such file or directory" in done.err


@pytest.mark.parametrize("kind", ["fifo", "link", "link to nothing"])
def test_metrics_replace_nothing_but_a_file(shell: Shell, running: Path, tmp_path: Path, kind: str) -> None:
    """/dev/stdout for instance, which is root's to replace."""
    say(running)
    place, other = tmp_path / "place", tmp_path / "other"
    if kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(other)
    if kind == "link":
        other.write_text("old")
    before = place.lstat()
    done = shell.run("status", running, "--metrics", place)
    assert done.status == 82
    assert f"{place} is not a file, and is never replaced" in done.err
    assert place.lstat() == before
    assert not other.exists() or other.read_text() == "old"


def test_metrics_follow_no_link_that_stands_where_they_are_written(shell: Shell, running: Path, tmp_path: Path) -> None:
    """Root writes them into the folder of another user, who can guess names."""
    say(running)
    place, other = tmp_path / "netdump.prom", tmp_path / "other"
    other.write_text("old")
    (tmp_path / f".netdump.prom.{os.getpid()}").symlink_to(other)
    assert shell.run("status", running, "--metrics", place).status == 0
    assert other.read_text() == "old"
    assert "netdump_up 1.0" in place.read_text()
    assert not place.is_symlink()


@pytest.mark.parametrize("options", [["--metrics", ""], ["--metrics", "-", "--json"]])
def test_metrics_that_cannot_be_meant(shell: Shell, running: Path, options: list[str]) -> None:
    assert shell.run("status", running, *options).status == 2
