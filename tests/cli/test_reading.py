"""Where reading commands read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.cli.reading import Source, exit_statuses
from netdump.errors import ConfigMissingError, DamagedError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query
from netdump.pki import Authority, Role
from tests.cli.collector import HALF, WHOLE, fill
from tests.pki.papers import enrolled
from tests.remote.conftest import Office
from tests.remote.fake_api import FakeApi

if TYPE_CHECKING:
    from tests.cli.commands import Shell


def test_the_bundle_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told.toml"
    assert Source(config=told).bundle_path() == told
    monkeypatch.setenv("NETDUMP_CONFIG", str(tmp_path / "environment.toml"))
    assert Source(config=told).bundle_path() == told
    assert Source().bundle_path() == tmp_path / "environment.toml"
    monkeypatch.setenv("NETDUMP_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ConfigMissingError, match="--root DIR"):
        Source().bundle_path()
    (tmp_path / "netdump").mkdir()
    (tmp_path / "netdump" / "client.toml").touch()
    assert Source().bundle_path() == tmp_path / "netdump" / "client.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    with pytest.raises(ConfigMissingError, match=r"home/\.config/netdump/client\.toml"):
        Source().bundle_path()


def test_a_user_without_a_home(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under any number."""
    for variable in ("NETDUMP_CONFIG", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for line in (("list",), ("renew",), ("enroll", "https://localhost:1", "--token", "x")):
        done = shell.run(*line)
        assert (done.status, "has no home folder" in done.err.replace("\n", " ")) == (21, True), line
    assert shell.run("list", "--config", "absent").status == 21
    assert shell.run("enroll", "https://localhost:1", "--token", "x", "--out", "y").status == 51


LONG = "x" * 300
"""Not a name that a system looks up: the same as a folder that is closed to the user, but for root too."""


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (71, ("list", "--root", LONG)),
        (71, ("reindex", LONG)),
        (20, ("list",)),
        (20, ("renew",)),
    ],
)
def test_places_that_cannot_even_be_looked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, status: int, line: tuple[str, ...]
) -> None:
    """As when `sudo -u ann` leaves HOME=/root."""
    monkeypatch.setenv("NETDUMP_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", f"/{LONG}")
    done = shell.run(*line)
    assert done.status == status
    assert LONG in done.err.replace("\n", "")


def test_root_counts_more_than_the_environment(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    monkeypatch.setenv("NETDUMP_CONFIG", "/nowhere/client.toml")
    assert shell.run("list", "--root", folder).status == 0
    done = shell.run("list", "--root", folder, "--config", "x")
    assert (done.status, "exclude each other" in done.err) == (2, True)


def test_every_reading_command_works_from_afar(shell: Shell, folder: Path, tmp_path: Path) -> None:
    fill(folder)
    bundle = enrolled(Authority.load(folder), "ann", Role.ANALYST)
    target = tmp_path / "core"
    with LocalCatalog(folder) as catalog, FakeApi(Office(folder, {Role.ANALYST: bundle}), catalog) as api:
        config = tmp_path / "client.toml"
        config.write_text(api.bundle().text())
        config.chmod(0o600)
        there = ("--config", config)
        dumps = shell.run("list", *there, "--json").object["dumps"]
        assert [dump["id"] for dump in dumps] == [HALF.id, WHOLE.id]
        assert len(catalog.list(Query())) == 2
        assert "receipt     good, signed by localhost\n" in shell.run("show", WHOLE.id[:8], *there).out
        assert "Kernel panic" in shell.run("log", WHOLE.id, *there).out
        assert shell.run("verify", WHOLE.id, *there).status == 0
        assert shell.run("fetch", WHOLE.id, *there, "-o", target).status == 0
        assert shell.run("delete", WHOLE.id, *there, "--yes").status == 0
    assert target.read_bytes() == WHOLE.image


def test_the_list_of_statuses_is_sorted_and_complete() -> None:
    lines = exit_statuses(DamagedError).splitlines()
    assert lines[2] == "   0  Done."
    numbers = [int(line[:4]) for line in lines[2:]]
    assert numbers == sorted(set(numbers))
    assert "  41  Stored data is damaged." in lines
