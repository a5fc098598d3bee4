"""`netdump enroll`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from netdump.cli import reading
from netdump.errors import AlreadyExistsError, StorageFaultError, TokenError
from netdump.pki import Bundle, Role

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.pki.api import Api


def test_a_host(shell: Shell, api: Api, tmp_path: Path) -> None:
    out = tmp_path / "client.toml"
    token = api.authority.make_token("web1", Role.HOST)
    done = shell.run("enroll", api.url, "--token", token, "--out", out)
    assert done.status == 0
    assert "Enrolled as host web1 until" in done.out
    assert f"netdump send --config {out}" in done.out
    assert Bundle.load(out).name == "web1"
    assert shell.run("enroll", api.url, "--token", token, "--out", out).status == AlreadyExistsError.exit_status
    assert shell.run("enroll", api.url, "--token", token, "--out", out, "--force").status == TokenError.exit_status


def test_json(shell: Shell, api: Api, tmp_path: Path) -> None:
    out = tmp_path / "client.toml"
    token = api.authority.make_token("ann", Role.ANALYST)
    options = ("--out", out, "--collector", "a.example", "--collector", "b.example:1", "--name", "ann", "--json")
    fields = shell.run("enroll", api.url, "--token", token, *options).object
    assert fields.pop("expires").endswith("Z")
    assert fields == {
        "name": "ann",
        "role": "analyst",
        "bundle": str(out),
        "collectors": ["a.example:7461", "b.example:1"],
        "api": api.url,
    }


def test_an_analyst_is_told_where_commands_look(shell: Shell, api: Api, tmp_path: Path) -> None:
    token = api.authority.make_token("ann", Role.ANALYST)
    done = shell.run("enroll", api.url, "--token", token, "--out", tmp_path / "client.toml")
    assert f"NETDUMP_CONFIG={tmp_path / 'client.toml'}" in done.out


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where bundles go by default: a host's, a person's."""
    monkeypatch.setattr(reading, "HOST_BUNDLE", tmp_path / "etc" / "netdump" / "client.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return reading.HOST_BUNDLE, reading.own_bundle()


@pytest.mark.parametrize("role", list(Role))
def test_without_out_the_role_says_where(shell: Shell, api: Api, places: tuple[Path, Path], role: Role) -> None:
    here, there = places if role is Role.HOST else places[::-1]
    done = shell.run("enroll", api.url, "--token", api.authority.make_token("x", role))
    assert f"The bundle is {here};" in done.out
    assert Bundle.load(here).role is role
    assert here.parent.stat().st_mode & 0o777 == 0o700
    assert [*there.parent.iterdir()] == []
    again = shell.run("enroll", api.url, "--token", api.authority.make_token("y", role))
    assert (again.status, str(here) in again.err) == (AlreadyExistsError.exit_status, True)


def test_a_place_that_cannot_be_written_costs_no_token(shell: Shell, api: Api, places: tuple[Path, Path]) -> None:
    etc, own = places
    etc.parent.parent.write_text("no folder")
    token = api.authority.make_token("web1", Role.HOST)
    done = shell.run("enroll", api.url, "--token", token)
    assert (done.status, Bundle.load(own).name) == (0, "web1")
    assert f"netdump send --config {own}" in done.out


def test_where_no_place_can_be_written_all_are_named(shell: Shell, api: Api, places: tuple[Path, Path]) -> None:
    for place in places:
        place.parent.parent.write_text("no folder")
    token = api.authority.make_token("ann", Role.ANALYST)
    done = shell.run("enroll", api.url, "--token", token)
    assert done.status == StorageFaultError.exit_status
    assert all(f"cannot make {place.parent}: " in done.err for place in places)
    assert done.err.endswith("; or name another file with --out\n")


def test_a_token_need_not_stand_on_the_command_line(
    shell: Shell, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(api.authority.make_token("web1", Role.HOST) + "\n"))
    assert shell.run("enroll", api.url, "--token", "-", "--out", tmp_path / "1.toml").status == 0
    monkeypatch.setenv("NETDUMP_TOKEN", api.authority.make_token("web1", Role.HOST))
    assert shell.run("enroll", api.url, "--out", tmp_path / "2.toml").status == 0
    monkeypatch.delenv("NETDUMP_TOKEN")
    assert shell.run("enroll", api.url, "--out", tmp_path / "3.toml").status == 2
