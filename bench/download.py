"""The way back: a core fetched to a desk, by netdump and by scp and rsync from where it lies as an ELF file.

The core is sent here uncompressed, as a host on a fast network does: so it lies at the collector.
"""

from __future__ import annotations

import filecmp
import json
import re
from typing import TYPE_CHECKING

from bench import upload
from bench.contest import Contestant
from bench.process import PYTHON, BenchError, Place, pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.record import DumpRecord


def ours(arena: upload.Arena, core: Path) -> Contestant:
    """netdump fetch, of a dump that is sent here and now. It verifies every digest and syncs what it wrote."""
    dump = stored_dump(arena, core)
    target = arena.far_folder / "fetched"
    argv = [PYTHON, "-m", "netdump", "fetch", dump.id, "-o", str(target), "--config", str(arena.collector.analyst)]

    def finish() -> int:
        output = arena.launcher.output()
        _check(core, target)
        return int(json.loads(output[output.index("{") :])["transferred_bytes"])

    return Contestant("netdump fetch", arena.client, lambda: [*argv, "--json"], finish, ours=True)


def stored_dump(arena: upload.Arena, core: Path) -> DumpRecord:
    """The core at the collector, sent if it is not there."""
    if not arena.collector.dumps():
        bundle = upload.bundle_with(arena, ["compression = 0"])
        arena.launcher.measure(upload.send_command(core, bundle, "-d", "0"), Place(namespace=arena.client.namespace))
    (dump,) = arena.collector.settle()
    return dump


def scp(arena: upload.Arena, core: Path, options: str = "") -> Contestant:
    """scp of the ELF file, and a sync of it. options: -C compresses."""
    target = arena.far_folder / "fetched"
    argv = pipeline(f"{arena.sshd.scp} {options} far:{core} {target} && sync {target}")

    def finish() -> int:
        said = re.search(r"received (\d+) bytes", arena.launcher.output())  # ssh -o LogLevel=VERBOSE, at its end
        if said is None:
            raise BenchError(f"scp does not say what it has received:\n{arena.launcher.output()}")
        _check(core, target)
        return int(said[1])

    return Contestant(f"scp {options}".strip(), arena.client, lambda: argv, finish)


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
