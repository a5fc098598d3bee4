from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.checkup.finding import State
from netdump.image.checkup.reservation import check_reservation
from tests.image.checkup.machines import make, only

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("told", "needed", "state", "said"),
    [
        ((str(128 * MIB), "crashkernel=128M"), 106 * MIB, State.OK, ("128 MiB, 106 MiB are needed", "")),
        ((str(64 * MIB), "crashkernel=64M"), 106 * MIB, State.PROBLEM, ("64 MiB, but", "crashkernel=112M")),
        ((str(64 * MIB), "crashkernel=64M"), None, State.UNKNOWN, ("64 MiB; how much", "image")),
        (
            ("0", "quiet"),
            106 * MIB,
            State.PROBLEM,
            ("there is no crashkernel=", "put crashkernel=112M into GRUB_CMDLINE"),
        ),
        (
            ("0", "quiet"),
            None,
            State.PROBLEM,
            ("there is no crashkernel=", "grubby --update-kernel=ALL --args=crashkernel=128M"),
        ),
        (
            ("0", "crashkernel=9G"),
            None,
            State.PROBLEM,
            ("although the kernel command line says crashkernel=9G", "dmesg"),
        ),
        ((None, "quiet"), None, State.PROBLEM, ("no kexec for crashes", "CONFIG_CRASH_DUMP")),
    ],
)
def test_reservations(
    told: tuple[str | None, str], needed: int | None, state: State, said: tuple[str, str], tmp_path: Path
) -> None:
    machine = make(tmp_path, {"sys/kernel/kexec_crash_size": told[0], "proc/cmdline": told[1]})
    finding = only(check_reservation(machine, needed))
    assert finding.state is state
    assert said[0] in finding.fact
    assert said[1] in finding.remedy
