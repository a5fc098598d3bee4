"""Options that name the holder of a certificate: --host, --analyst, --operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netdump.pki import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HELP = {
    Role.HOST: "A machine that may send its own dumps, and nothing else.",
    Role.ANALYST: "A person who may list and fetch dumps.",
    Role.OPERATOR: "A person who may also delete them.",
}


def holder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options --host, --analyst and --operator, each with a NAME."""
    for role in reversed(Role):
        function = click.option(f"--{role}", metavar="NAME", help=HELP[role])(function)
    return function


def chosen_holder(options: Mapping[str, str | None]) -> tuple[Role, str] | None:
    """Return role and name of the one holder option that was given, None if none was.

    Raises click.UsageError for several.
    """
    given = [(role, name) for role in Role if (name := options.get(role)) is not None]
    if len(given) > 1:
        raise click.UsageError("give only one of --host, --analyst and --operator")
    return given[0] if given else None
