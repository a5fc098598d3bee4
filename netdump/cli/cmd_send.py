"""`netdump send` as the group lists it.

The command itself is netdump.client.command; netdump/__main__.py goes there directly.
"""

from __future__ import annotations

import click

from netdump.client.command import main as send


@click.command(
    "send",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Send a core (default /proc/vmcore) to a collector."""
    return send(list(arguments))
