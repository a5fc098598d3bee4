"""Options that `netdump image`, `arm` and `doctor` share, called as the fields of ImageSpec; the report of sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netdump.client.config import DEFAULT_CONFIG
from netdump.image.build import PROGRAMS_BUDGET
from netdump.image.compression import LEVEL, LEVEL_MAX, NAMES
from netdump.image.init.plan import ACTIONS, DEADLINE, DEADLINE_MAX, DEADLINE_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netdump.image.build import CaptureImage

_EVERYWHERE = (
    click.option(
        "--config", "bundle", type=click.Path(path_type=Path, readable=False), default=DEFAULT_CONFIG,
        show_default=True, metavar="FILE", help="This host's bundle.",
    ),
    click.option("--kernel", metavar="RELEASE", help="The kernel that captures, as uname -r says; default: this one."),
    click.option(
        "--add-driver", "drivers", metavar="MODULE", multiple=True, help="One more kernel module; repeat it for more."
    ),
    click.option(
        "--network", metavar="'IFACE SETTINGS'", multiple=True,
        help="dhcp, auto, or ADDRESS/PREFIX … [via GATEWAY] [dns SERVER] [vlan ID]; default: as this machine does now.",
    ),
    click.option(
        "--deadline", type=click.FloatRange(DEADLINE_MIN, DEADLINE_MAX), metavar="SECONDS",
        help=f"When the capture kernel stops trying to send.  [default: of [send] in the bundle, else {DEADLINE:g}]",
    ),
    click.option(
        "--final", type=click.Choice(ACTIONS), default="reboot", show_default=True, help="What follows delivery."
    ),
)  # fmt: skip
_OWN_IMAGE = (
    click.option(
        "--save", type=click.Path(path_type=Path), metavar="FOLDER",
        help="Where the dump is kept if no collector can be reached: a folder on a plain disk.",
    ),
    click.option(
        "--failure", type=click.Choice(ACTIONS), default="reboot", show_default=True,
        help="What follows if nothing was delivered, saved or not.",
    ),
    click.option("--watchdog/--no-watchdog", default=True, help="Use the hardware watchdog.", show_default=True),
    click.option(
        "--compression", type=click.Choice(NAMES), help="Of the image; default: the best that the kernel can unpack."
    ),
    click.option(
        "--level", type=click.IntRange(1, LEVEL_MAX), default=LEVEL, show_default=True,
        help="Of this compression; the dump level stands in the bundle, or in a word netdump.level=.",
    ),
)  # fmt: skip


def image_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of these options."""
    return _give(function, (*_EVERYWHERE, *_OWN_IMAGE))


def tree_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command those that make sense in an image that somebody else builds."""
    return _give(function, _EVERYWHERE)


def _give(function: Callable[..., None], options: Sequence[Callable[..., Any]]) -> Callable[..., None]:
    for option in reversed(options):
        function = option(function)
    return function


def report_lines(image: CaptureImage) -> list[str]:
    """Sizes of an image, for people."""
    width = max(len(part.name) for part in image.parts)
    share = f"{_mib(image.programs_bytes)} of {_mib(PROGRAMS_BUDGET)} allowed"
    return [
        *(f"  {part.name:<{width}}  {_mib(part.raw_bytes)}" for part in image.parts),
        f"  {'unpacked':<{width}}  {_mib(image.raw_bytes)}",
        f"  {'packed':<{width}}  {_mib(len(image.data))} ({image.compression}); without modules and settings {share}",
    ]


def report_object(image: CaptureImage) -> dict[str, Any]:
    """Sizes of an image, for programs. Bytes."""
    return {
        "kernel": image.kernel.release,
        "compression": image.compression,
        "packed_bytes": len(image.data),
        "unpacked_bytes": image.raw_bytes,
        "programs_packed_bytes": image.programs_bytes,
        "programs_budget_bytes": PROGRAMS_BUDGET,
        "parts": {part.name: part.raw_bytes for part in image.parts},
        "modules": [module.path.rpartition("/")[2] for module in image.plan.modules],
        "ways": [f"{way.link} {way.method}" for way in image.plan.ways],
    }


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 100 << 10 else f"{count / (1 << 10):.1f} KiB"
