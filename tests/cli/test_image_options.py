from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from netdump.cli.image_options import image_options, report_lines, report_object, tree_options
from netdump.image.build import CaptureImage, ImageSpec, Part
from netdump.image.init.plan import Module, Plan, Way
from netdump.image.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = CaptureImage(
    bytes(7 << 20),
    Kernel("6.1", Path("/"), Path("/"), {}),
    Plan(modules=(Module("/lib/modules/a.ko"),), ways=(Way("eth0", "dhcp"),)),
    (Part("interpreter", 5 << 20), Part("settings", 2048)),
    "zstd",
    6 << 20,
    20 << 20,
)


def test_sizes_for_people() -> None:
    assert report_lines(IMAGE) == [
        "  interpreter  5.0 MiB",
        "  settings     2.0 KiB",
        "  unpacked     20.0 MiB",
        "  packed       7.0 MiB (zstd); without modules and settings 6.0 MiB of 8.0 MiB allowed",
    ]


def test_sizes_for_programs() -> None:
    assert report_object(IMAGE) == {
        "kernel": "6.1",
        "compression": "zstd",
        "packed_bytes": 7 << 20,
        "unpacked_bytes": 20 << 20,
        "programs_packed_bytes": 6 << 20,
        "programs_budget_bytes": 8 << 20,
        "parts": {"interpreter": 5 << 20, "settings": 2048},
        "modules": ["a.ko"],
        "ways": ["eth0 dhcp"],
    }


@pytest.mark.parametrize("options", [image_options, tree_options])
def test_options_are_called_as_the_wishes_they_become(options: Callable[..., Any]) -> None:
    command = click.command()(options(lambda **_: None))
    named = {parameter.name for parameter in command.params}
    assert len(named) > 4
    assert named <= {field.name for field in fields(ImageSpec)}
