from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.cli import cmd_arm
from netdump.errors import ArmError, NotArmedError, ReservationError
from netdump.image import armed
from netdump.image.arming import check_machine
from tests.cli.test_image_options import IMAGE

if TYPE_CHECKING:
    from netdump.image.arming import Loading
    from netdump.image.build import CaptureImage, ImageSpec
    from tests.cli.commands import Shell


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Loading]:
    """A machine with 112 MiB reserved, where loading only notes what is loaded."""
    found: list[Loading] = []

    def load(loading: Loading) -> None:
        assert loading.initrd.read_bytes() == IMAGE.data
        assert loading.initrd.stat().st_mode & 0o777 == 0o600
        found.append(loading)

    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").write_bytes(b"kernel")
    kernel = type(IMAGE.kernel)("6.1", tmp_path, tmp_path, {})
    image = replace(IMAGE, kernel=kernel, digests={"network": "1", "bundle": "2"}, known={"web": ["::1"]})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(cmd_arm, "reserved_bytes", lambda: 112 << 20)
    monkeypatch.setattr(cmd_arm, "check_machine", lambda _: None)
    monkeypatch.setattr(cmd_arm, "build_image", lambda _: image)
    monkeypatch.setattr(cmd_arm, "running_command_line", lambda: "console=ttyS0 root=/dev/vda")
    monkeypatch.setattr(cmd_arm, "load", load)
    monkeypatch.setattr(cmd_arm, "is_loaded", lambda: bool(found))
    run = tmp_path / "run"
    monkeypatch.setattr(cmd_arm, "only_one", lambda: armed.only_one(run))
    monkeypatch.setattr(cmd_arm, "read_record", lambda: armed.read_record(run))
    monkeypatch.setattr(cmd_arm, "write_record", lambda record: armed.write_record(record, run))
    monkeypatch.setattr(cmd_arm, "digests", lambda image, line: armed.digests(image, line, tmp_path))
    return found


def test_arming(shell: Shell, loaded: list[Loading], tmp_path: Path) -> None:
    done = shell.run("arm", "--append", "x=1", "--config", "client.toml")
    assert done.status == 0, done.err
    (loading,) = loaded
    assert loading.kernel == tmp_path / "boot/vmlinuz-6.1"
    assert loading.command_line.startswith("console=ttyS0 irqpoll nr_cpus=1 ")
    assert loading.command_line.endswith(" x=1")
    assert not loading.initrd.exists()  # the kernel has it; it holds a key
    record = armed.read_record(tmp_path / "run")
    assert record is not None
    assert record.spec().bundle == Path("client.toml").absolute()  # doctor may be run elsewhere
    assert record.options["append"] == ["x=1"]
    assert "Armed: a panic starts Linux 6.1 with an image of 7.0 MiB" in done.out


@pytest.mark.usefixtures("loaded")
def test_collectors_stand_there_as_people_write_them(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    image: CaptureImage = vars(cmd_arm)["build_image"](None)
    plan = image.plan._replace(collectors=(("2001:db8::7", 7461), ("c1.example", 7)))
    monkeypatch.setattr(cmd_arm, "build_image", lambda _: replace(image, plan=plan))
    assert " to [2001:db8::7]:7461, c1.example:7." in shell.run("arm").out
    assert "[2001:db8::7]:7461, c1.example:7" in shell.run("arm", "--show").out


def test_the_image_is_made_for_the_command_line_that_it_gets(
    shell: Shell, loaded: list[Loading], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ImageSpec] = []
    image: CaptureImage = vars(cmd_arm)["build_image"](None)

    def build(spec: ImageSpec) -> CaptureImage:
        asked.append(spec)
        return image

    monkeypatch.setattr(cmd_arm, "build_image", build)
    shell.run("arm", "--append", "netdump.collectors=192.0.2.77", "--append", "netdump.drill")
    shell.run("arm", "--command-line", "console=hvc0 netdump.level=0")
    assert [each.words for each in asked] == [{"collectors": "192.0.2.77", "drill": "1"}, {"level": "0"}]


@pytest.mark.parametrize("words", [("--append", "-- single"), ("--command-line", "console=hvc0 -- x")])
def test_words_for_the_init_would_hide_where_the_core_is(
    shell: Shell, loaded: list[Loading], words: tuple[str, str]
) -> None:
    done = shell.run("arm", *words)
    assert done.status == ArmError.exit_status
    assert "kexec adds at the end where the core is" in done.err
    assert not loaded
    assert shell.run("arm", "--append", '"a=b -- c"').status == 0


def test_a_signal_while_loading_leaves_no_key_behind(
    shell: Shell, loaded: list[Loading], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def load(loading: Loading) -> None:
        seen.append(loading.initrd)
        assert loading.initrd.exists()
        os.kill(os.getpid(), signal.SIGTERM)

    def arrive(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(cmd_arm, "load", load)
    before = signal.signal(signal.SIGTERM, arrive)
    try:
        with pytest.raises(TimeoutError):
            cmd_arm.command.main(["--config", "client.toml"], standalone_mode=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not seen[0].parent.exists()


def test_only_if_something_has_changed(
    shell: Shell, loaded: list[Loading], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shell.run("arm", "--if-changed").status == 0
    assert len(loaded) == 1  # nothing was loaded yet
    done = shell.run("arm", "--if-changed")
    assert (done.status, done.out) == (0, "Armed already: nothing has changed.\n")
    assert shell.run("arm", "--if-changed", "--json").object["loaded"] is False
    assert len(loaded) == 1

    (tmp_path / "boot/vmlinuz-6.1").write_bytes(b"another kernel")
    asked: list[ImageSpec] = []

    def build(spec: ImageSpec) -> CaptureImage:
        asked.append(spec)
        kernel = replace(IMAGE.kernel, root=tmp_path)
        return replace(IMAGE, kernel=kernel, digests={"network": "9", "bundle": "2"})

    monkeypatch.setattr(cmd_arm, "build_image", build)
    done = shell.run("arm", "--if-changed")
    assert "Armed again (changed: kernel, network): a panic starts" in done.out
    assert len(loaded) == 2
    assert asked[0].known == {"web": ["::1"]}
    assert "Armed again" not in shell.run("arm").out  # asked for without a condition: loaded in any case
    assert len(loaded) == 3


def test_what_is_loaded(shell: Shell, loaded: list[Loading], tmp_path: Path) -> None:
    done = shell.run("arm", "--show")
    assert (done.status, "a panic leaves no dump" in done.err) == (NotArmedError.exit_status, True)
    shell.run("arm", "--command-line", "console=hvc0")
    done = shell.run("arm", "--show")
    assert "command line  console=hvc0\n" in done.out
    assert shell.run("arm", "--show", "--json").object["by_netdump"] is True
    armed.forget_record(tmp_path / "run")
    assert shell.run("arm", "--show").out == "A capture kernel is loaded, but not by netdump.\n"


def test_json_and_a_line_of_ones_own(shell: Shell, loaded: list[Loading]) -> None:
    done = shell.run("arm", "--command-line", "console=hvc0", "--json")
    assert done.object["command_line"] == "console=hvc0" == loaded[0].command_line
    assert done.object["reserved_bytes"] == 112 << 20
    assert done.object["needed_bytes"] <= 112 << 20


def test_too_little_memory(shell: Shell, loaded: list[Loading], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmd_arm, "reserved_bytes", lambda: 64 << 20)
    done = shell.run("arm")
    assert done.status == ReservationError.exit_status
    assert "64 MiB are reserved" in done.err
    assert "crashkernel=112M" in done.err
    assert loaded == []


def test_nothing_is_built_where_nothing_can_be_loaded(
    shell: Shell, loaded: list[Loading], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(cmd_arm, "build_image", build)
    monkeypatch.setattr(cmd_arm, "check_machine", check_machine)
    monkeypatch.setattr(cmd_arm, "reserved_bytes", lambda: 0)
    done = shell.run("arm")
    assert done.status == ReservationError.exit_status
    assert "no memory is reserved" in done.err
    assert loaded == []


def test_root_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = shell.run("arm")
    assert done.status == ArmError.exit_status
    assert "run it as root" in done.err
