"""`netdump init`."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from netdump.cli.cmd_init import command
from netdump.errors import AlreadyExistsError, BadNameError, NetdumpError, ServeError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import Query
from netdump.pki import Authority
from netdump.server.config import Config, load

if TYPE_CHECKING:
    from pathlib import Path


def init(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_what_it_makes(tmp_path: Path) -> None:
    folder = tmp_path / "srv" / "netdump"
    said = init(str(folder), "--name", "collector.example, 192.0.2.7,2001:db8::1")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.toml", "dumps", "index.lock", "index.sqlite", "index.sqlite-journal", "pki",
    ]  # fmt: skip
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert Authority.load(folder).collector_names() == ("collector.example", "192.0.2.7", "2001:db8::1")
    assert load(folder / "config.toml") == Config()
    with LocalCatalog(folder) as catalog:
        assert catalog.list(Query()) == []
    for step in ("netdump serve", "netdump token", "netdump enroll https://collector.example:7462"):
        assert step in said
    assert str(folder) in said


def test_the_next_step_names_an_ipv6_address_as_urls_do(tmp_path: Path) -> None:
    assert "https://[2001:db8::1]:7462" in init(str(tmp_path / "c"), "--name", "2001:db8::1")


def test_an_empty_folder_will_do_and_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    init(str(tmp_path), "--name", "localhost")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["config.toml", ".hidden", "dumps"])
def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_text("mine")
    with pytest.raises(AlreadyExistsError, match="is not empty"):
        init(str(tmp_path), "--name", "localhost")
    assert [path.name for path in tmp_path.iterdir()] == [content]
    assert (tmp_path / content).read_text() == "mine"


def test_twice(tmp_path: Path) -> None:
    init(str(tmp_path / "c"), "--name", "localhost")
    before = (tmp_path / "c" / "pki" / "ca.key").read_bytes()
    with pytest.raises(AlreadyExistsError, match=r"is a collector already: .* name another one"):
        init(str(tmp_path / "c"), "--name", "localhost")
    assert (tmp_path / "c" / "pki" / "ca.key").read_bytes() == before


@pytest.mark.parametrize("names", ["", ",", "a,,b", "two words", "x" * 300, "http://a", "a:7461", "*.example"])
def test_names_that_are_none(tmp_path: Path, names: str) -> None:
    with pytest.raises(BadNameError):
        init(str(tmp_path / "c"), "--name", names)
    # And it can be tried again.
    init(str(tmp_path / "c"), "--name", "localhost")


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(ServeError, match="cannot be made"):
            init(str(tmp_path / place), "--name", "localhost")


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor as root: the collector of that user could not read what is made."""
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ServeError, match="belongs to another user"):
        init(str(tmp_path), "--name", "localhost")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refuse)
    with pytest.raises(ServeError, match="cannot be used: Operation not permitted"):
        init(str(tmp_path), "--name", "localhost")


def test_errors_are_netdumps_own() -> None:
    assert issubclass(AlreadyExistsError, NetdumpError)


def test_without_a_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "c")])
    assert result.exit_code == 2
    assert "--name" in result.output
    assert not (tmp_path / "c").exists()
