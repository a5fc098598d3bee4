from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump.image.build import Contents
from netdump.image.cpio import Archive
from netdump.image.drill.chroot import CORE, FAILED, WORDS, DrillFiles, enter_or_end, populate
from netdump.image.init.plan import Plan, Way
from netdump.image.kernel import Kernel

if TYPE_CHECKING:
    from pathlib import Path


def test_the_room_holds_what_the_image_holds(tmp_path: Path) -> None:
    first, second = Archive(), Archive()
    first.add_file("usr/bin/python3", b"program", 0o755)
    first.add_link("bin/sh", "busybox")
    first.add_folder("tmp")
    second.add_folder("etc/netdump", 0o700)
    second.add_file("etc/netdump/client.toml", b"secret", 0o600)
    plan = Plan(ways=(Way("eth0", "dhcp", servers=("192.0.2.1", "192.0.2.2")),))
    contents = Contents(Kernel("6.1", tmp_path, tmp_path, {}), plan, first, second, {}, {}, {}, ())
    populate(tmp_path, DrillFiles(contents, b"core", "quiet netdump.level=1"))
    assert (tmp_path / "usr/bin/python3").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/netdump").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/netdump/client.toml").read_bytes() == b"secret"
    assert (tmp_path / "bin/sh").readlink().name == "busybox"
    assert (tmp_path / CORE[1:]).read_bytes() == b"core"
    assert (tmp_path / WORDS).read_text() == "quiet netdump.level=1\n"
    assert (tmp_path / "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # a runner's threads
def test_a_room_that_cannot_be_made(tmp_path: Path) -> None:
    """In a child, for the process that tries it ends."""
    files = DrillFiles(None, b"", "")  # type: ignore[arg-type]
    child = os.fork()
    if child == 0:
        enter_or_end(tmp_path / "absent", files)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == FAILED
