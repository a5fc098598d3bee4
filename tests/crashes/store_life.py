"""The store's part: a dump from its creation to its receipt and vmcore, over two connections, beside two others.

One of the others is deleted, the third only has to be left alone.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from netdump.store import Store
from netdump.testing.faulty_files import FaultyFiles, Moment, Stopped
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from tests.crashes.states import fingerprint, plans
from tests.store.delivery import CLOCK, Delivery

if TYPE_CHECKING:
    from tests.campaign.frame import Tally

ROOT = Path("dumps")
POINTS = 400  # more than a life has operations
LOOKED_THROUGH = 8  # one state in so many is also delivered to its end
DELETED = SampleDump(seed=71, image_bytes=9_000, chunk_bytes=5_000)
BYSTANDER = SampleDump(seed=72, image_bytes=5_000, chunk_bytes=5_000)


class Life:
    """What a collector does, and what it has promised so far."""

    def __init__(self, variant: int) -> None:
        random = Random(variant)
        sample = _sample(variant % 5, random.choice((9_000, 17_000, 30_000)))
        self.delivery = Delivery(sample, ROOT, chunks_per_segment=random.choice((1, 2, 3)))
        self.deleting = False
        self.deleted = False

    def live(self, files: FaultyFiles) -> None:
        """All of it. Stopped ends it anywhere."""
        store = Store(ROOT, files, clock=lambda: CLOCK)
        store.empty_trash()
        with store.open_writer(self.delivery.sample.origin) as writer:  # a connection that is cut
            self.delivery.check_opened(writer)
            self.delivery.send_some(writer, 3)
        self.deleting = True
        store.delete(DELETED.origin.id)
        self.deleted = True
        self.delivery.session(files)
        dump = store.dump(self.delivery.sample.origin.id)
        dump.drop_vmcore()
        dump.reassemble()


@cache
def _sample(seed: int, image_bytes: int) -> SampleDump:
    return SampleDump(seed, image_bytes, chunk_bytes=6_000)


def furnished_disk() -> MemoryFiles:
    """A disk with the two other dumps, all durable."""
    return _furnished().after_power_cut()


@cache
def _furnished() -> MemoryFiles:
    disk = MemoryFiles()
    for sample in (DELETED, BYSTANDER):
        Delivery(sample, ROOT).session(disk)
    disk.sync_folder("")
    return disk


def look(case: int, tally: Tally) -> None:
    """Cut power at one point of one life, and recover from every state that may leave."""
    variant, point = divmod(case, POINTS)
    disk, life = furnished_disk(), Life(variant)
    files = FaultyFiles(disk)
    files.stop(point, Moment.AFTER)
    try:
        life.live(files)
    except Stopped:
        pass
    else:
        return  # it has fewer operations
    tally.count("moments of a power cut")
    random, seen = Random(case), set[bytes]()
    for luck in plans(disk.unsynced(), random, by_chance=12):
        state = disk.after_power_cut(luck)
        known = fingerprint(state)
        if known not in seen:
            seen.add(known)
            recover(state, life, to_the_end=len(seen) % LOOKED_THROUGH == 1)
            tally.count("states")


def recover(disk: MemoryFiles, life: Life, *, to_the_end: bool) -> None:
    """What the next collector finds and does. Raises when a promise is broken."""
    delivery = copy.copy(life.delivery)
    delivery.states = dict(delivery.states)
    sample = delivery.sample
    store = Store(ROOT, disk, clock=lambda: CLOCK)
    _check_visible(store, life)
    store.empty_trash()
    _check_visible(store, life)
    assert not [name for name in disk.names("") if name.startswith(".")], "trash is left"
    with store.open_writer(sample.origin) as writer:
        delivery.check_opened(writer)
    if to_the_end:
        delivery.session(disk)
        disk.cut_power()
        assert disk.content(f"{sample.origin.id}/vmcore") == sample.image
        assert store.dump(sample.origin.id).verify().ok


def _check_visible(store: Store, life: Life) -> None:
    """Nothing that can be seen is half done, and what must be there is."""
    ids = store.ids()
    for dump_id in ids:
        report = store.dump(dump_id).verify()
        assert report.ok, report.findings
        assert report.complete or dump_id == life.delivery.sample.origin.id
    assert BYSTANDER.origin.id in ids
    assert (DELETED.origin.id in ids) or life.deleting
    assert (DELETED.origin.id not in ids) or not life.deleted
    assert (life.delivery.sample.origin.id in ids) or not life.delivery.sessions
