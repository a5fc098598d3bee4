"""`netdump arm`: load the capture kernel."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from netdump.cli.image_options import image_options, report_object, wishes
from netdump.cli.output import print_json, size_text
from netdump.errors import ArmError
from netdump.image.arming import (
    Loading,
    check_reservation,
    command_line,
    load,
    needed_bytes,
    reserved_bytes,
    running_command_line,
)
from netdump.image.build import build_image, write_image


@click.command("arm", short_help="Load capture kernel and image, so that a panic finds them.")
@image_options
@click.option("--append", metavar="WORD", multiple=True, help="One more word for the capture kernel's command line.")
@click.option("--command-line", "given", metavar="WORDS", help="The whole command line, instead of one made from this.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: sizes, command line, memory.")
def command(*, append: tuple[str, ...], given: str | None, as_json: bool, **options: Any) -> None:
    """Build the capture image of this machine and load it with the capture kernel (kexec), in place of an earlier one.

    From then on a panic starts it, sends the dump to this host's collectors, and does what --final or --failure say.
    Do it again after a change of kernel, network or bundle, and at every boot. Memory must be reserved for it on the
    kernel command line, as in crashkernel=128M. Needs root and kexec-tools.

    \b
    Example:
      netdump arm --config /etc/netdump/client.toml
      netdump arm --final poweroff --save /var/crash

    See also: netdump disarm, netdump image, netdump enroll.
    """
    if os.geteuid():
        raise ArmError("only root can load a capture kernel: run it as root")
    reserved = reserved_bytes()
    image = build_image(wishes(options))
    needed = needed_bytes(len(image.data), image.raw_bytes)
    check_reservation(reserved, needed)
    line = given if given is not None else command_line(running_command_line(), append)
    with tempfile.TemporaryDirectory(prefix="netdump-arm-") as folder:
        initrd = Path(folder) / "capture.img"
        write_image(image, initrd)
        load(Loading(image.kernel.image(), initrd, line))
    if as_json:
        print_json({**report_object(image), "reserved_bytes": reserved, "needed_bytes": needed, "command_line": line})
        return
    click.echo(
        f"Armed: a panic starts Linux {image.kernel.release} with an image of {size_text(len(image.data))}, which "
        f"sends over {', '.join(way.link for way in image.plan.ways)} to "
        f"{', '.join(f'{host}:{port}' for host, port in image.plan.collectors)}."
    )
    click.echo(f"Memory: {size_text(reserved)} reserved, {size_text(needed)} needed.")
