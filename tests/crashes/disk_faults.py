"""ENOSPC, EDQUOT and EIO at every operation that changes the disk in the life of a dump of 64 chunks and more.

Of what a failed sync was about nothing may be trusted again: the disk forgets it, and power is cut at the end.

The same at every operation, reading included, of what else is done with a dump: DEEDS.
"""

from __future__ import annotations

import errno
import itertools
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from netdump.errors import StorageFaultError
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.memory_files import ByChance, MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all
from tests.store.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.campaign.frame import Tally

ROOT: Final = Path("dumps")
ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
LASTING: Final = (1, 6)  # operations in a row that fail
KINDS: Final = {
    "create",
    "make_folder",
    "lock",
    "write",
    "write_at",
    "resize",
    "sync",
    "sync_folder",
    "rename",
    "unlink",
    "close",
    "release",
}
BYSTANDER: Final = SampleDump(seed=72, image_bytes=5_000, chunk_bytes=5_000)
PART: Final = SampleDump(seed=73, image_bytes=5_000, chunk_bytes=1_000)


@cache
def sample() -> SampleDump:
    return SampleDump(seed=6, image_bytes=160_000, chunk_bytes=4_000)


@cache
def places() -> tuple[int, ...]:
    """The numbers of the operations that a fault can be put at."""
    files = FaultyFiles(furnished_disk())
    delivery = Delivery(sample(), ROOT)
    delivery.session(files)
    assert len(list(sample().cut(0, 1))) >= 64
    return tuple(number for number, operation in enumerate(files.operations) if operation.kind in KINDS)


def cases() -> int:
    return len(places()) * len(ERRORS) * len(LASTING)


def furnished_disk() -> MemoryFiles:
    return _furnished().after_power_cut()


@cache
def _furnished() -> MemoryFiles:
    disk = MemoryFiles()
    Delivery(BYSTANDER, ROOT).session(disk)
    disk.sync_folder("")
    return disk


def look(case: int, tally: Tally) -> None:
    """One fault: it is told as what it is, breaks no promise, touches no other dump, and the dump goes on after it."""
    lasting, rest = divmod(case, len(places()) * len(ERRORS))
    place, error = divmod(rest, len(ERRORS))
    disk = furnished_disk()
    others = {name: bytes(disk.content(name)) for name in disk.all_names()}
    files, delivery = FaultyFiles(disk), Delivery(sample(), ROOT)
    files.fail(places()[place], ERRORS[error], LASTING[lasting])
    faults = 0
    for _ in range(LASTING[lasting] + 1):
        try:
            delivery.session(files)
            break
        except StorageFaultError as fault:
            _check_told(fault, ERRORS[error])
            faults += 1
    tally.count("faults")
    tally.count("deliveries interrupted", faults)
    _check_others(disk, others)
    disk.cut_power(Random(case))
    delivery.session(disk)
    disk.cut_power()
    assert disk.content(f"{sample().origin.id}/vmcore") == sample().image
    assert Store(ROOT, disk).dump(sample().origin.id).verify().ok
    _check_others(disk, others)


def _restore(store: Store) -> None:
    dump = store.dump(BYSTANDER.origin.id)
    dump.drop_vmcore()
    dump.reassemble()


DEEDS: Final[dict[str, Callable[[Store], object]]] = {
    "delete": lambda store: store.delete(BYSTANDER.origin.id),
    "empty_trash": Store.empty_trash,
    "open_writer": lambda store: store.open_writer(BYSTANDER.origin, distrust=True).close(),
    "restore": _restore,
    "verify": lambda store: store.dump(BYSTANDER.origin.id).verify(),
    "verify a part": lambda store: store.dump(PART.origin.id).verify(),
}


def look_at_deed(name: str) -> int:
    """Let each operation of it fail, once and lasting: nothing but StorageFaultError, and every dump is whole or, if
    it was to be deleted, gone; also after a power cut. Returns how many faults there were."""
    disk = furnished_disk()
    with Store(ROOT, disk).open_writer(PART.origin) as writer:
        append_all(writer, PART.chunks[:3])
        writer.publish()
    disk.sync_folder("")
    count = FaultyFiles(disk.after_power_cut())
    DEEDS[name](Store(ROOT, count))
    faults = [(at, *each) for at in range(len(count.operations)) for each in itertools.product(ERRORS, LASTING)]
    for at, error, lasting in faults:
        found = disk.after_power_cut()
        files = FaultyFiles(found)
        files.fail(at, error, lasting)
        with suppress(StorageFaultError):
            DEEDS[name](Store(ROOT, files))
        for after in (found, found.after_power_cut(), found.after_power_cut(ByChance(Random(at)))):
            _check_whole(Store(ROOT, after), may_be_gone=name == "delete")
    return len(faults)


def _check_whole(store: Store, *, may_be_gone: bool) -> None:
    ids = store.ids()
    assert PART.origin.id in ids
    assert may_be_gone or BYSTANDER.origin.id in ids
    for dump_id in ids:
        report = store.dump(dump_id).verify()
        assert report.ok, report.findings
        assert report.complete == (dump_id == BYSTANDER.origin.id)
    store.empty_trash()
    assert store.ids() == ids


def _check_told(fault: StorageFaultError, error: int) -> None:
    assert fault.retryable
    assert sample().origin.id in str(fault)
    assert ("make room" in str(fault)) == (error != errno.EIO), fault


def _check_others(disk: MemoryFiles, before: dict[str, bytes]) -> None:
    assert all(disk.content(name) == content for name, content in before.items()), "another dump was touched"
