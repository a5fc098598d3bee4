"""`netdump enroll`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from netdump.errors import AlreadyExistsError, TokenError
from netdump.pki import Bundle, Role
from tests.pki.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.commands import Shell


@pytest.fixture
def api(folder: Path) -> Iterator[Api]:
    with Api(folder) as api:
        yield api


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


def test_a_token_need_not_stand_on_the_command_line(
    shell: Shell, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(api.authority.make_token("web1", Role.HOST) + "\n"))
    assert shell.run("enroll", api.url, "--token", "-", "--out", tmp_path / "1.toml").status == 0
    monkeypatch.setenv("NETDUMP_TOKEN", api.authority.make_token("web1", Role.HOST))
    assert shell.run("enroll", api.url, "--out", tmp_path / "2.toml").status == 0
    monkeypatch.delenv("NETDUMP_TOKEN")
    assert shell.run("enroll", api.url, "--out", tmp_path / "3.toml").status == 2
