"""A real file system of some megabytes, filled up again and again: the store and the index on a loop device.

Nothing is simulated here but the host: what the kernel says when ext4, xfs or btrfs is full goes through LocalFiles and
SQLite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from netdump.errors import StorageFaultError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.index.reading import Query
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from tests.store.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.campaign.frame import Tally

MIB: Final = 1 << 20
KINDS: Final = {
    # The smallest that they can be made, in MiB, and how.
    "btrfs": (128, ["mkfs.btrfs", "-q"]),
    "ext4": (16, ["mkfs.ext4", "-q", "-m", "0"]),
    "xfs": (300, ["mkfs.xfs", "-q"]),
}
BYSTANDER: Final = SampleDump(seed=72, image_bytes=50_000, chunk_bytes=5_000)


@cache
def missing(kind: str = "ext4") -> str | None:
    """Why no file system of that kind can be mounted here; None: one can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if shutil.which(KINDS[kind][1][0]) is None:
        return f"mkfs.{kind} is not installed"
    try:
        with mounted(kind):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no loop file system can be mounted: {error}"


@contextmanager
def mounted(kind: str) -> Iterator[Path]:
    """A new, small one of that kind."""
    mebibytes, make = KINDS[kind]
    with tempfile.TemporaryDirectory(prefix="netdump-loop-") as place:
        image, point = Path(place) / "image", Path(place) / "mount"
        point.mkdir()
        image.touch()
        os.truncate(image, mebibytes * MIB)
        subprocess.run([*make, str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True, capture_output=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)


def look(case: int, tally: Tally) -> None:
    """Fill a file system ten times while dumps arrive, and make room each time. Case after case of another kind."""
    fill(sorted(KINDS)[case % len(KINDS)], case, tally)


def fill(kind: str, case: int, tally: Tally) -> None:
    """The same for this kind."""
    if missing(kind) is not None:
        tally.count(f"cases without {kind}")
        return
    random = Random(case)
    with mounted(kind) as folder:
        store = Store(folder / "dumps")
        Delivery(BYSTANDER, folder / "dumps").session(LocalFiles(folder / "dumps"))
        Index.open(folder / NAME).close()
        for round_ in range(10):
            _fill_once(folder, store, random, SampleDump(1000 * case + round_, 400_000, 20_000), tally)
            tally.count(f"fillings of {kind}")


def _fill_once(folder: Path, store: Store, random: Random, sample: SampleDump, tally: Tally) -> None:
    files, ballast = LocalFiles(folder / "dumps"), folder / "ballast"
    delivery = Delivery(sample, folder / "dumps", chunks_per_segment=random.randint(1, 6))
    _write_ballast(ballast, folder, leave=random.randrange(0, 450_000))
    faults = 0
    for _ in range(3):
        try:
            delivery.session(files)
        except StorageFaultError as fault:
            _check_told(fault)
            faults += 1
        assert not list((folder / "dumps" / sample.origin.id).rglob("*.partial"))
        _try_index(folder, tally)
        assert store.dump(BYSTANDER.origin.id).verify().ok
    tally.count("deliveries that found it full", faults)
    ballast.unlink()
    delivery.session(files)
    delivery_dump = store.dump(sample.origin.id)
    report = delivery_dump.verify()
    assert report.ok, report
    assert report.complete
    assert (folder / "dumps" / sample.origin.id / "vmcore").read_bytes() == sample.image
    with LocalCatalog(folder) as catalog:
        assert {record.id for record in catalog.list(Query())} == {BYSTANDER.origin.id, sample.origin.id}
    store.delete(sample.origin.id)


def _check_told(fault: StorageFaultError) -> None:
    assert "make room" in str(fault), fault


def _write_ballast(path: Path, folder: Path, leave: int) -> None:
    """Take all room but so much."""
    found = os.statvfs(folder)
    size = max(0, found.f_bavail * found.f_frsize - leave)
    with suppress(OSError), path.open("wb") as file:  # even fuller
        for _ in range(size // 65536):
            file.write(bytes(65536))
        file.flush()
        os.fsync(file.fileno())


def _try_index(folder: Path, tally: Tally) -> None:
    """The index works, or says that there is no room; never anything else."""
    try:
        with LocalCatalog(folder) as catalog:
            catalog.refresh()
            assert BYSTANDER.origin.id in {record.id for record in catalog.list(Query())}
    except StorageFaultError:
        tally.count("index found it full")
