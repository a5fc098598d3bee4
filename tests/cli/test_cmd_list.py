"""`netdump list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.cli.selection import LISTED_MAX
from netdump.errors import ConfigMissingError, IndexFaultError, NotACollectorError
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import PANIC

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("limit", ["0", str(LISTED_MAX + 1), "99999999999999999999"])
def test_a_limit_that_is_none(shell: Shell, folder: Path, limit: str) -> None:
    done = shell.run("list", "--root", folder, "--limit", limit)
    assert (done.status, "is not in the range" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host", "web1"], [WHOLE.id]),
        (["--state", "interrupted"], [HALF.id]),
        (["--state", "arriving"], []),
        (["--since", "2026-11-22T20:05:00Z"], [HALF.id]),
        (["--since", "2026-11-22"], [HALF.id, WHOLE.id]),
        (["--until", "2026-11-22T20:05:00Z"], [WHOLE.id]),
        (["--until", "2026-11-22T20:03:59Z"], []),
        (["--since", "2026-11-22", "--until", "90m"], [HALF.id, WHOLE.id]),
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
    assert shell.run("list", "--root", folder, "--state", "damaged").err == "netdump: no such dumps\n"
    other = shell.run("list", "--root", folder, "--host", "WEB1")
    assert other.out == ""
    assert other.err == "netdump: no such dumps of WEB1: upper and lower case count in the name of a host\n"
    assert shell.run("list", "--root", folder, "--json").object == {"dumps": []}


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
