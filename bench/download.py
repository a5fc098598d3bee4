"""The way back: a core fetched to a desk, by netdump and by scp and rsync from where it lies as an ELF file."""

from __future__ import annotations

import filecmp
from typing import TYPE_CHECKING

from bench import upload
from bench.contest import Contestant
from bench.process import PYTHON, BenchError, Place, pipeline

if TYPE_CHECKING:
    from pathlib import Path


def ours(arena: upload.Arena, core: Path) -> Contestant:
    """netdump fetch, of a dump that is sent here and now. It verifies every digest and syncs what it wrote."""
    arena.launcher.measure(upload.send_command(core, arena.collector.host, "-d", "0"), Place())
    (dump,) = arena.collector.settle()
    target = arena.far_folder / "fetched"
    argv = [PYTHON, "-m", "netdump", "fetch", dump.id, "-o", str(target), "--config", str(arena.collector.analyst)]
    return Contestant("netdump fetch", arena.client, lambda: argv, lambda: _check(core, target), ours=True)


def scp(arena: upload.Arena, core: Path) -> Contestant:
    """scp of the ELF file, and a sync of it."""
    target = arena.far_folder / "fetched"
    argv = pipeline(f"{arena.sshd.scp} far:{core} {target} && sync {target}")
    return Contestant("scp", arena.client, lambda: argv, lambda: _check(core, target))


def rsync(arena: upload.Arena, core: Path) -> Contestant:
    """rsync of the ELF file, sparse, and a sync of it."""
    target = arena.far_folder / "fetched"
    argv = pipeline(f"rsync --sparse -e '{arena.sshd.ssh}' far:{core} {target} && sync {target}")
    return Contestant("rsync --sparse", arena.client, lambda: argv, lambda: _check(core, target))


def _check(core: Path, target: Path) -> int:
    if not filecmp.cmp(core, target, shallow=False):
        raise BenchError(f"{target} differs from {core}")
    size = target.stat().st_size
    target.unlink()
    return size
