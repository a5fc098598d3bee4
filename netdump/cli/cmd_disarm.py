"""`netdump disarm`: take the capture kernel out."""

from __future__ import annotations

import os

import click

from netdump.errors import ArmError
from netdump.image.armed import forget_record, only_one
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
    with only_one():
        unloaded = unload()
        forget_record()
    click.echo("Disarmed." if unloaded else "No capture kernel was loaded.")
