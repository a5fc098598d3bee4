"""`netdump image`: the capture image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netdump.cli.image_options import image_options, report_lines, report_object, tree_options
from netdump.cli.output import print_json, size_text, warn
from netdump.cli.signals import orderly_end
from netdump.client.words import parse_words
from netdump.errors import ConfigError
from netdump.image.build import ImageSpec, build_image, gather, write_image
from netdump.image.tree import DELIVER, write_tree

if TYPE_CHECKING:
    from collections.abc import Sequence


_append = click.option(
    "--append", metavar="WORD", multiple=True,
    help="One more word that its kernel's command line will have, as netdump.collectors=HOST.",
)  # fmt: skip


@click.group("image", short_help="Build the image that the capture kernel runs.")
def command() -> None:
    """Build the image that the capture kernel runs. `netdump arm` builds it by itself."""


@command.command("build", short_help="Build the image into a file.")
@image_options
@_append
@click.option(
    "--out", type=click.Path(path_type=Path), default="netdump-capture.img", show_default=True, metavar="FILE",
    help="The file to write; it will hold this host's key.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print an object: sizes, modules, ways.")
def build(out: Path, *, append: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Build the capture image of this machine: interpreter, client, drivers, network settings and bundle.

    What it needs is found on this machine as it runs now: the network devices in use, their drivers and settings, and
    everything that the client loads. What is missing is said here, not after a panic.

    \b
    Examples:
      netdump image build --config /etc/netdump/client.toml --out /boot/netdump.img
      netdump image build --network 'eth0 192.0.2.7/24 via 192.0.2.1'

    See also: netdump arm, netdump enroll.
    """
    image = build_image(_spec(options, append))
    with orderly_end():
        write_image(image, out)
    for warning in image.warnings:
        warn(str(warning))
    if image.lacks_stripping:
        warn("the image is larger than it need be: install binutils, whose `strip` makes its programs smaller")
    if as_json:
        print_json({"image": str(out), **report_object(image)})
        return
    click.echo(f"{out}: for Linux {image.kernel.release}, over {image.interfaces}")
    for line in report_lines(image):
        click.echo(line)


@command.command("tree", short_help="Lay the same out as a folder, for the kdump image of a distribution.")
@tree_options
@_append
@click.option("--json", "as_json", is_flag=True, help="Print an object: folder, kernel, bytes, ways.")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
def tree(folder: Path, *, append: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Lay out what the capture image holds as FOLDER, for hooks of dracut or initramfs-tools to put into their image.

    FOLDER/deliver sends the dump from there and ends with status 0 if a collector has it; with --end it then does what
    --final says. Anything else leaves the dump to the kdump around it. The folder holds this host's key.

    \b
    Example:
      netdump image tree --kernel 6.1.0-56-amd64 /tmp/image/netdump

    See also: netdump arm, docs/deploy.md.
    """
    contents = gather(_spec({**options, "watchdog": False}, append))
    for warning in contents.warnings:
        warn(str(warning))
    written = write_tree(contents, folder)
    ways = [f"{way.link} {way.method}" for way in contents.plan.ways]
    if as_json:
        print_json({"folder": str(folder), "kernel": contents.kernel.release, "bytes": written, "ways": ways})
        return
    click.echo(f"{folder}: {size_text(written)}, for Linux {contents.kernel.release}, over {', '.join(ways)}")
    click.echo(f"{folder / DELIVER} sends from there.")


def tree_spec(words: Sequence[str]) -> tuple[ImageSpec, tuple[str, ...]]:
    """What these options of `netdump image tree` ask for, and what they append. Raises ConfigError."""
    try:
        options = tree.make_context("netdump image tree", [*words, "FOLDER"]).params
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error
    append = options.pop("append")
    del options["folder"], options["as_json"]
    return _spec({**options, "watchdog": False}, append), append


def _spec(options: dict[str, Any], append: tuple[str, ...]) -> ImageSpec:
    return ImageSpec(**options, words=parse_words(" ".join(append)))
