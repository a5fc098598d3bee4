from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netdump.errors import ArmError, ReservationError
from netdump.image.arming import (
    Loading,
    advice,
    check_machine,
    check_reservation,
    is_disabled,
    is_loaded,
    load,
    needed_bytes,
    reserved_bytes,
    unload,
)
from tests.image.test_bzimage import bzimage

MIB = 1 << 20


def test_memory(tmp_path: Path) -> None:
    needed = needed_bytes(7 * MIB, 20 * MIB, bzimage_file(tmp_path / "6.1", 0x3378000))
    assert 90 * MIB < needed <= 112 * MIB  # DESIGN section 6: 112M must do
    check_reservation(112 * MIB, needed)
    with pytest.raises(ReservationError, match=r"64 MiB are reserved .* needs 106 MiB"):
        check_reservation(64 * MIB, needed)


def bzimage_file(path: Path, init_size: int) -> Path:
    path.write_bytes(bzimage(init=init_size))
    return path


def test_a_larger_kernel_needs_more(tmp_path: Path) -> None:
    """The numbers are of Debian's 7.2 with Python 3.14: of 128 MiB 4.4 were left at the least."""
    sizes = (11 * MIB + 300_000, 25 * MIB)
    as_measured = needed_bytes(*sizes, bzimage_file(tmp_path / "6.1", 0x3378000))
    larger = needed_bytes(*sizes, bzimage_file(tmp_path / "7.2", 0x3C3A000))
    assert larger - as_measured == 0x3C3A000 - 0x3378000
    assert advice(as_measured) == "crashkernel=128M"
    assert advice(larger) == "crashkernel=144M"
    assert needed_bytes(*sizes, bzimage_file(tmp_path / "small", 0x100C000)) == as_measured
    (tmp_path / "Image").write_bytes(b"of another architecture")
    assert needed_bytes(*sizes, tmp_path / "Image") == as_measured
    with pytest.raises(ArmError, match=r"absent cannot be read \(No such file"):
        needed_bytes(*sizes, tmp_path / "absent")


def test_a_machine_that_can_load_nothing(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_machine(1)
    with pytest.raises(
        ReservationError, match=r"no memory is reserved .* put crashkernel=128M into .*; Fedora, RHEL.* grubby"
    ):
        check_machine(0)
    monkeypatch.setattr("netdump.image.arming.shutil.which", lambda *_, **__: None)
    with pytest.raises(ArmError, match="install kexec-tools"):
        check_machine(1)
    assert not (fake_kexec / "calls").exists()


def test_what_the_kernel_says(tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="has no kexec for crashes"):
        reserved_bytes(tmp_path)
    (tmp_path / "kexec_crash_size").write_text("117440512\n")
    assert reserved_bytes(tmp_path) == 112 * MIB
    assert not is_loaded(tmp_path)
    (tmp_path / "kexec_crash_loaded").write_text("1\n")
    assert is_loaded(tmp_path)


@pytest.fixture
def fake_kexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `kexec` that notes its arguments, refuses what REFUSE holds, and says that it has loaded or unloaded."""
    program = tmp_path / "bin/kexec"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> {tmp_path}/calls\n'
        'if [ -n "$REFUSE" ] && [ "$1" = "$REFUSE" ]; then echo "kexec_load failed: no" >&2; exit 1; fi\n'
        f'case "$*" in *" -u") echo 0;; *) echo 1;; esac > {tmp_path}/kexec_crash_loaded\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


LOADING = Loading(Path("/boot/vmlinuz"), Path("/tmp/image"), "irqpoll x=1")


def test_loading_and_unloading(fake_kexec: Path) -> None:
    load(LOADING, fake_kexec)
    assert is_loaded(fake_kexec)
    assert unload(fake_kexec)
    assert not is_loaded(fake_kexec)
    assert not unload(fake_kexec)
    calls = (fake_kexec / "calls").read_text().splitlines()
    assert calls == ["-c -p /boot/vmlinuz --initrd=/tmp/image --command-line=irqpoll x=1", "-c -p -u"]


def test_a_32_bit_machine(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = fake_kexec / "vmlinuz"
    kernel.write_bytes(b"a kernel")
    given: list[bytes] = []

    def run(arguments: list[str]) -> str:
        given.append(Path(arguments[2]).read_bytes())
        assert arguments[3] == "--elf32-core-headers"
        (fake_kexec / "kexec_crash_loaded").write_text("1\n")
        return ""

    monkeypatch.setattr("netdump.image.arming._kexec", run)
    monkeypatch.setattr("netdump.image.arming.with_room", lambda image: image + b" and room")
    monkeypatch.setattr("netdump.image.arming.platform.machine", lambda: "i686")
    load(replace(LOADING, kernel=kernel), fake_kexec)
    assert given == [b"a kernel and room"]


def test_the_other_system_call_is_tried(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE", "-c")
    load(LOADING, fake_kexec)
    assert [line[:2] for line in (fake_kexec / "calls").read_text().splitlines()] == ["-c", "-s"]


def test_a_locked_down_kernel_only_takes_signed_ones(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_kexec / "security").mkdir()
    (fake_kexec / "security/lockdown").write_text("none [integrity] confidentiality\n")
    monkeypatch.setenv("REFUSE", "-s")
    with pytest.raises(
        ArmError, match=r"kexec cannot load /boot/vmlinuz: kexec_load failed: no \(.*Secure Boot.*package again"
    ):
        load(LOADING, fake_kexec)
    assert [line[:2] for line in (fake_kexec / "calls").read_text().splitlines()] == ["-s"]


def test_loading_that_is_switched_off(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = fake_kexec / "kexec_load_disabled"
    assert not is_disabled(switch)
    switch.write_text("1\n")
    assert is_disabled(switch)
    monkeypatch.setattr("netdump.image.arming.is_disabled", lambda: True)
    with pytest.raises(ArmError, match=r"kernel\.kexec_load_disabled is 1"):
        load(LOADING, fake_kexec)
    assert not (fake_kexec / "calls").exists()


def test_a_refusal_says_what_is_left(fake_kexec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.image.arming._kexec", lambda _: "it is Tuesday")
    with pytest.raises(ArmError, match="it is Tuesday; no capture kernel is loaded now"):
        load(LOADING, fake_kexec)


def test_without_kexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.image.arming.shutil.which", lambda *_, **__: None)
    with pytest.raises(ArmError, match="install kexec-tools"):
        load(LOADING, tmp_path)
