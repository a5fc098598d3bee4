"""`netdump send` as the group lists it.

The command itself is netdump.client.command; netdump/__main__.py goes there directly.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from netdump.client.arguments import shown_options
from netdump.client.command import main as send


class Send(click.Command):
    """Reads none of its options, and knows their names for the shell that completes them."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Options that begin so."""
        return [
            CompletionItem(name, help=told) for name, told in shown_options().items() if name.startswith(incomplete)
        ]


def _complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


@click.command(
    "send",
    cls=Send,
    short_help="Send a core (default /proc/vmcore) to a collector.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_complete_file)
def command(arguments: tuple[str, ...]) -> int:
    """Send a core (default /proc/vmcore) to a collector."""
    return send(list(arguments))
