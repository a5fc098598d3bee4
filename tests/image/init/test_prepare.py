from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.init import prepare
from netdump.image.init.plan import Module, Plan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bytes]:
    """What the kernel is given to load, with options behind it, and no mounts; settings go to tmp_path."""
    contents: list[bytes] = []

    def load(content: bytes, options: str = "") -> None:
        contents.append(b" ".join(filter(None, (content, options.encode()))))
        if "wrong" in options:
            raise OSError(22, "Invalid argument")
        if content == b"bad":
            raise OSError(8, "Exec format error")
        if content == b"twice":
            raise FileExistsError
        if content == b"hung":
            raise SystemExit  # killed

    monkeypatch.setattr(prepare, "load_module", load)
    monkeypatch.setattr(prepare, "module_options", dict)
    monkeypatch.setattr(prepare, "MOUNTS", ())
    monkeypatch.setattr(prepare, "SYSCTLS", ((str(tmp_path / "panic"), "10"), (str(tmp_path / "no" / "such"), "1")))
    return contents


def modules(folder: Path, *names: str, options: tuple[str, ...] = ()) -> tuple[Module, ...]:
    for name in names:
        (folder / f"{name}.ko").write_bytes(name.encode())
    return tuple(Module(str(folder / f"{name}.ko"), options) for name in names)


def test_what_fails_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], loaded: list[bytes]
) -> None:
    def mount(source: str, *_: object) -> None:
        if source == "sysfs":
            raise OSError(1, "Operation not permitted")
        if source == "proc":
            raise OSError(16, "busy")

    monkeypatch.setattr(prepare, "mount", mount)
    monkeypatch.setattr(prepare, "MOUNTS", [(kind, str(tmp_path / kind), kind, 0) for kind in ("proc", "sysfs", "dev")])
    absent = Module(str(tmp_path / "absent.ko"))
    assert prepare.prepare(Plan(modules=(*modules(tmp_path, "bad", "twice", "good"), absent))) == 0
    assert loaded == [b"bad", b"twice", b"good"]
    assert said == [
        f"cannot mount sysfs on {tmp_path}/sysfs: Operation not permitted",
        "module bad.ko does not load: Exec format error",
        "module absent.ko cannot be read: No such file or directory",
    ]
    assert all(not (tmp_path / f"{name}.ko").read_bytes() for name in ("bad", "twice", "good"))  # the memory is free
    assert (tmp_path / "panic").read_text() == "10"  # a capture kernel that crashes reboots


def test_a_second_run_goes_on_after_the_module_that_hung(tmp_path: Path, said: list[str], loaded: list[bytes]) -> None:
    plan = Plan(modules=modules(tmp_path, "before", "hung", "after"))
    with pytest.raises(SystemExit):
        prepare.prepare(plan)
    assert loaded == [b"before", b"hung"]
    assert prepare.prepare(plan) == 0
    assert loaded == [b"before", b"hung", b"after"]
    assert said == ["module hung.ko hangs: leaving it out"]


def test_modules_get_the_options_of_modprobe_and_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[bytes]
) -> None:
    """The command line last, so that it wins. No virtual functions, nor watchdogs that nobody feeds yet."""
    monkeypatch.setattr(prepare, "module_options", lambda: {"b": ("a=3",)})
    options = ("a=1", "max_vfs=8", "c", "start_now=1")
    plan = Plan(modules=(*modules(tmp_path, "a"), *modules(tmp_path, "b", options=options)))
    assert prepare.prepare(plan) == 0
    assert loaded == [b"a", b"b a=1 c a=3"]


def test_a_module_that_does_not_load_with_its_options_is_loaded_without(
    tmp_path: Path, said: list[str], loaded: list[bytes]
) -> None:
    plan = Plan(
        modules=(*modules(tmp_path, "twice", options=("a=1",)), *modules(tmp_path, "good", "bad", options=("a=wrong",)))
    )
    assert prepare.prepare(plan) == 0
    assert loaded.pop(0) == b"twice a=1", "which is there already, whatever its options"
    assert loaded == [b"good a=wrong", b"good", b"bad a=wrong", b"bad"]
    assert said == [
        "module good.ko does not load with a=wrong (Invalid argument): without",
        "module bad.ko does not load with a=wrong (Invalid argument): without",
        "module bad.ko does not load: Exec format error",
    ]


def test_packets_that_vanish_for_their_size_are_sent_smaller() -> None:
    assert ("/proc/sys/net/ipv4/tcp_mtu_probing", "1") in prepare.SYSCTLS


def test_a_kernel_that_hangs_reboots() -> None:
    """Also where no interrupts are taken, and where the command line says nowatchdog or nosoftlockup."""
    names = ("softlockup_panic", "hardlockup_panic", "soft_watchdog", "watchdog")
    assert all((f"/proc/sys/kernel/{name}", "1") in prepare.SYSCTLS for name in names)
