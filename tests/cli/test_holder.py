"""Exactly one of --host, --analyst, --operator, or none."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from netdump.cli.holder import chosen_holder, holder_options
from netdump.pki import Role


@click.command()
@holder_options
def command(**names: str | None) -> None:
    click.echo(repr(chosen_holder(names)))


@pytest.mark.parametrize("role", list(Role))
def test_one(role: Role) -> None:
    assert chosen_holder({"host": None, "analyst": None, "operator": None, role.value: "x"}) == (role, "x")
    assert f"'{role}'" in CliRunner().invoke(command, [f"--{role}", "x"]).output


def test_none() -> None:
    assert chosen_holder({}) is None
    assert CliRunner().invoke(command, []).output == "None\n"


def test_several() -> None:
    done = CliRunner().invoke(command, ["--host", "a", "--operator", "b"])
    assert done.exit_code == 2
    assert "only one of" in done.output
