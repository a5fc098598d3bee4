from __future__ import annotations

import os
from typing import TYPE_CHECKING

from netdump.image.init.hardware import HardwareWatchdog

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_petting_and_releasing(tmp_path: Path, said: list[str]) -> None:
    device = tmp_path / "watchdog0"
    device.touch()
    watchdog = HardwareWatchdog(60, (str(tmp_path / "absent"), str(device)))
    watchdog.pet()
    watchdog.pet()
    watchdog.release()
    watchdog.pet()
    assert device.read_bytes() == b"\0\0V"  # the V stops it; nothing after that
    assert said[0].startswith("the watchdog keeps its own time")  # a file takes no ioctl
    assert said[1] == f"{device} resets this machine if the init stops for about 60 s"


def test_there_may_be_none(tmp_path: Path, said: list[str]) -> None:
    device = tmp_path / "watchdog0"
    device.touch()
    for watchdog in (HardwareWatchdog(60, (str(tmp_path / "absent"),)), HardwareWatchdog(0, (str(device),))):
        watchdog.pet()
        watchdog.release()
    assert device.read_bytes() == b""
    assert said == []


def test_one_that_fails_for_a_moment_is_fed_again(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed without the V it would run on, and reset the machine in the middle of the dump."""
    device = tmp_path / "watchdog0"
    device.touch()
    watchdog = HardwareWatchdog(60, (str(device),))
    said.clear()

    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", refuse)
            watchdog.pet()
            watchdog.pet()
        watchdog.pet()
    watchdog.release()
    assert device.read_bytes() == b"\0\0V"
    assert said == ["the watchdog does not listen: Invalid argument"]


def test_one_that_breaks_is_let_go_of_at_the_end(said: list[str]) -> None:
    before = os.listdir("/proc/self/fd")
    watchdog = HardwareWatchdog(60, ("/dev/full",))
    watchdog.pet()
    watchdog.release()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert said[-1].startswith("the watchdog does not listen")
