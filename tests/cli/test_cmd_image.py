from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.cli import cmd_image
from netdump.errors import AlreadyExistsError, ConfigMissingError, DriverError
from netdump.image.build import Contents, Doubt
from netdump.image.cpio import Archive
from tests.cli.test_image_options import IMAGE

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.build import CaptureImage, ImageSpec
    from tests.cli.commands import Shell


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ImageSpec]:
    """Instead of building: what would be built."""
    found: list[ImageSpec] = []

    def build(spec: ImageSpec) -> CaptureImage:
        found.append(spec)
        return IMAGE

    monkeypatch.setattr(cmd_image, "build_image", build)
    return found


def test_building(shell: Shell, asked: list[ImageSpec], tmp_path: Path) -> None:
    out = tmp_path / "capture.img"
    options = ("--add-driver", "a", "--add-driver", "b", "--network", "eth0 dhcp", "--final", "halt", "--level", "3")
    done = shell.run("image", "build", "--config", "x.toml", "--out", out, *options)
    assert done.status == 0
    assert out.read_bytes() == IMAGE.data
    (spec,) = asked
    assert (spec.drivers, spec.network, spec.final, spec.level) == (("a", "b"), ("eth0 dhcp",), "halt", 3)
    assert done.out.startswith(f"{out}: for Linux 6.1, over eth0\n")
    assert "names are old" not in done.err


def test_words_that_the_kernel_will_be_given(
    shell: Shell, asked: list[ImageSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("--append", "netdump.collectors=192.0.2.77", "--append", 'netdump.remark="rack 7"')
    shell.run("image", "build", "--out", tmp_path / "x", *words)

    def gather(spec: ImageSpec) -> None:
        asked.append(spec)
        raise DriverError("enough")

    monkeypatch.setattr(cmd_image, "gather", gather)
    shell.run("image", "tree", *words, tmp_path / "tree")
    assert [each.words for each in asked] == [{"collectors": "192.0.2.77", "remark": "rack 7"}] * 2


def test_warnings(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = replace(IMAGE, warnings=(Doubt("names are old", "be patient"),))
    monkeypatch.setattr(cmd_image, "build_image", lambda _: image)
    assert "names are old; be patient" in shell.run("image", "build", "--out", tmp_path / "x").err


def test_json(shell: Shell, asked: list[ImageSpec], tmp_path: Path) -> None:
    out = tmp_path / "capture.img"
    done = shell.run("image", "build", "--out", out, "--json")
    assert done.object["image"] == str(out)
    assert done.object["packed_bytes"] == 7 << 20


def test_errors(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_: ImageSpec) -> None:
        raise DriverError("kernel 6.1 has no module x")

    monkeypatch.setattr(cmd_image, "build_image", refuse)
    done = shell.run("image", "build", "--out", tmp_path / "x", "--json")
    assert (done.status, done.object["error"]["code"]) == (DriverError.exit_status, "image-driver")
    assert shell.run("image", "build", "--deadline", "1").status == 2
    assert shell.run("image", "build", "--final", "explode").status == 2


def test_a_tree(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs, machine = Archive(), Archive()
    programs.add_file("usr/bin/python3", b"#!", 0o755)
    machine.add_file("etc/netdump/client.toml", b"secret", 0o600)
    asked: list[ImageSpec] = []

    def gather(spec: ImageSpec) -> Contents:
        asked.append(spec)
        return Contents(
            IMAGE.kernel, IMAGE.plan, programs, machine, {}, {}, {}, (Doubt("names are old", "be patient"),)
        )

    monkeypatch.setattr(cmd_image, "gather", gather)
    done = shell.run("image", "tree", "--kernel", "6.1", "--final", "halt", tmp_path / "x", "--json")
    assert done.object == {
        "folder": str(tmp_path / "x"),
        "kernel": "6.1",
        "bytes": sum(path.stat().st_size for path in (tmp_path / "x").rglob("*") if path.is_file()),
        "ways": ["eth0 dhcp"],
    }
    assert "names are old" in done.err
    assert (asked[0].kernel, asked[0].final, asked[0].watchdog) == ("6.1", "halt", False)
    done = shell.run("image", "tree", tmp_path / "y")
    assert done.out.startswith(f"{tmp_path / 'y'}: ")
    assert shell.run("image", "tree", tmp_path / "x").status == AlreadyExistsError.exit_status
    assert shell.run("image", "tree", tmp_path / "z", "--save", "/").status == 2  # the distribution's kdump saves


def test_a_bundle_that_is_not_there(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.image.build.find_kernel", lambda *_: IMAGE.kernel)
    done = shell.run("image", "build", "--config", tmp_path / "absent.toml", "--out", tmp_path / "x")
    assert done.status == ConfigMissingError.exit_status
    assert not (tmp_path / "x").exists()
