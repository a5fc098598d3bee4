"""`netdump image`: the capture image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netdump.cli.image_options import image_options, report_lines, report_object, wishes
from netdump.cli.output import print_json, warn
from netdump.image.build import PROGRAMS_BUDGET, build_image, write_image


@click.group("image", short_help="Build the image that the capture kernel runs.")
def command() -> None:
    """Build the image that the capture kernel runs. `netdump arm` builds it by itself."""


@command.command("build", short_help="Build the image into a file.")
@image_options
@click.option(
    "--out", type=click.Path(path_type=Path), default="netdump-capture.img", show_default=True, metavar="FILE",
    help="The file to write; it will hold this host's key.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print an object: sizes, modules, ways.")
def build(out: Path, *, as_json: bool, **options: Any) -> None:
    """Build the capture image of this machine: interpreter, client, drivers, network settings and bundle.

    What it needs is found on this machine as it runs now: the network devices in use, their drivers and settings, and
    everything that the client loads. What is missing is said here, not after a panic.

    \b
    Example:
      netdump image build --config /etc/netdump/client.toml --out /boot/netdump.img
      netdump image build --network 'eth0 192.0.2.7/24 via 192.0.2.1'

    See also: netdump arm, netdump enroll.
    """
    image = build_image(wishes(options))
    write_image(image, out)
    if image.programs_bytes > PROGRAMS_BUDGET:
        warn("the programs are larger than their budget; is `strip` (binutils) installed?")
    if as_json:
        print_json({"image": str(out), **report_object(image)})
        return
    click.echo(f"{out}: for Linux {image.kernel.release}, over {', '.join(way.link for way in image.plan.ways)}")
    for line in report_lines(image):
        click.echo(line)
