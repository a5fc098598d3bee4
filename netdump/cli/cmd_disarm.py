"""`netdump disarm`: take the capture kernel out."""

from __future__ import annotations

import os

import click

from netdump.errors import ArmError
from netdump.image.arming import unload


@click.command("disarm", short_help="Unload the capture kernel.")
def command() -> None:
    """Unload the capture kernel, ours or another's: a panic then does what it did before. Needs root and kexec-tools.

    \b
    Example:
      netdump disarm

    See also: netdump arm.
    """
    if os.geteuid():
        raise ArmError("only root can unload a capture kernel: run it as root")
    click.echo("Disarmed." if unload() else "No capture kernel was loaded.")
