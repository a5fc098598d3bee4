"""The store's part: dumps from their creation to their receipts and vmcores, some at once, in several connections, and
deleted in between. Two others are there from the beginning: one is deleted, the other only has to be left alone.

A life is made up by its variant: how many dumps, how large, in which order they go on, how their segments are cut, what
is deleted when. Some of the states are cut short a second time while the next collector recovers and goes on.
"""

from __future__ import annotations

import copy
import hashlib
from contextlib import ExitStack
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles, Moment, Stopped
from netdump.testing.memory_files import ByChance, MemoryFiles
from netdump.testing.sample_dump import SampleDump
from tests.crashes.states import fingerprint, plans
from tests.store.delivery import CLOCK, Delivery

if TYPE_CHECKING:
    from netdump.store.files import Files
    from tests.campaign.frame import Tally

ROOT: Final = Path("dumps")
POINTS: Final = 600  # no life has more operations that change the disk
LOOKED_THROUGH: Final = 8  # one state in so many is also delivered to its end
CUT_AGAIN: Final = 16  # and in so many power is cut a second time
SECOND_LIFE: Final = 700  # operations at one of which that happens, reading included
CHANGES: Final = {
    "create", "write", "write_at", "resize", "sync", "sync_folder", "rename", "unlink", "make_folder", "remove_folder",
    "lock",
}  # fmt: skip
DELETED: Final = SampleDump(seed=71, image_bytes=9_000, chunk_bytes=5_000)
BYSTANDER: Final = SampleDump(seed=72, image_bytes=5_000, chunk_bytes=5_000)


class Life:
    """What a collector does, and what it has promised so far. deleting, deleted: ids of dumps."""

    def __init__(self, variant: int) -> None:
        random = self.random = Random(variant)
        sizes = (9_000, 17_000, 30_000)
        self.deliveries = [
            Delivery(_sample(10 * number + variant % 5, random.choice(sizes)), ROOT, random.choice((1, 2, 3)))
            for number in range(random.choice((1, 1, 2, 3)))
        ]
        self.deleting: set[str] = set()
        self.deleted: set[str] = set()

    def copy(self) -> Life:
        """The same promises, to be added to."""
        other = copy.copy(self)
        other.deliveries = [copy.copy(delivery) for delivery in self.deliveries]
        for delivery in other.deliveries:
            delivery.states = dict(delivery.states)
        other.deleting, other.deleted = set(self.deleting), set(self.deleted)
        return other

    def live(self, files: Files) -> None:
        """All of it. Stopped ends it anywhere."""
        store, random = Store(ROOT, files, clock=lambda: CLOCK), self.random
        store.empty_trash()
        with ExitStack() as connections:  # they are cut
            for delivery in self.deliveries:
                writer = connections.enter_context(store.open_writer(delivery.sample.origin))
                delivery.check_opened(writer)
                delivery.send_some(writer, random.choice((1, 3, 4)))
        early = random.random() < 0.5
        if early:
            self.delete(store, DELETED.origin.id)
        for delivery in random.sample(self.deliveries, len(self.deliveries)):
            delivery.session(files)
        if not early:
            self.delete(store, DELETED.origin.id)
        first, *others = self.deliveries
        if others and random.random() < 0.5:
            self.delete(store, others[0].sample.origin.id)
        dump = store.dump(first.sample.origin.id)
        dump.drop_vmcore()
        dump.reassemble()

    def delete(self, store: Store, dump_id: str) -> None:
        self.deleting.add(dump_id)
        store.delete(dump_id)
        self.deleted.add(dump_id)

    def promises(self) -> str:
        """All of them, to tell states apart that are the same disk under other promises."""
        of_dumps = [(each.acknowledged, each.headline, each.complete, each.receipt) for each in self.deliveries]
        return f"{of_dumps} {sorted(self.deleting)} {sorted(self.deleted)}"


@cache
def _sample(seed: int, image_bytes: int) -> SampleDump:
    return SampleDump(1000 * seed + image_bytes, image_bytes, chunk_bytes=6_000)


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


@cache
def moments(variant: int) -> tuple[int, ...]:
    """The numbers of a life's operations that change the disk: power that is cut behind others finds nothing new."""
    files = FaultyFiles(furnished_disk())
    Life(variant).live(files)
    found = tuple(number for number, operation in enumerate(files.operations) if operation.kind in CHANGES)
    assert len(found) <= POINTS, len(found)
    return found


def look(case: int, tally: Tally) -> None:
    """Cut power at one point of one life, and recover from every state that may leave."""
    variant, point = divmod(case, POINTS)
    if point >= len(moments(variant)):
        return
    disk, life = furnished_disk(), Life(variant)
    files = FaultyFiles(disk)
    files.stop(moments(variant)[point], Moment.AFTER)
    try:
        life.live(files)
    except Stopped:
        tally.count("moments of a power cut")
    promises, seen = life.promises(), _seen(variant)
    for number, luck in enumerate(plans(disk.unsynced(), Random(case), by_chance=12)):
        state = disk.after_power_cut(luck)
        known = hashlib.sha256(fingerprint(state) + promises.encode()).digest()
        if known in seen:
            continue  # power that is cut a little earlier may leave the same
        seen.add(known)
        tally.distinct("different states", known)
        future = life.copy()
        if number % CUT_AGAIN == 2:
            state = cut_again(state, future, Random(f"{case}/{number}"), tally)
        recover(state, future, to_the_end=number % LOOKED_THROUGH == 1)


@lru_cache(1)
def _seen(_variant: int) -> set[bytes]:
    """The states of a life that this process has looked at."""
    return set()


def cut_again(disk: MemoryFiles, life: Life, random: Random, tally: Tally) -> MemoryFiles:
    """The next collector recovers and goes on, until power is cut at any moment of that. What that leaves."""
    files = FaultyFiles(disk)
    files.stop(random.randrange(SECOND_LIFE), Moment.AFTER)
    try:
        recover(files, life, to_the_end=True)
    except Stopped:
        tally.count("second power cuts")
    return disk.after_power_cut(ByChance(random))


def recover(files: Files, life: Life, *, to_the_end: bool) -> None:
    """What the next collector finds and does. Raises when a promise is broken."""
    store = Store(ROOT, files, clock=lambda: CLOCK)
    _check_visible(files, life)
    store.empty_trash()
    _check_visible(files, life)
    assert not [name for name in files.names("") if name.startswith(".")], "trash is left"
    for delivery in life.deliveries:
        sample = delivery.sample
        if sample.origin.id in life.deleting:
            continue  # gone or whole; its host, if it came back, would begin anew
        with store.open_writer(sample.origin) as writer:
            delivery.check_opened(writer)
        if to_the_end:
            delivery.session(files)
            if isinstance(files, MemoryFiles):
                files.cut_power()
                assert files.content(f"{sample.origin.id}/vmcore") == sample.image
            assert store.dump(sample.origin.id).verify().ok


def _check_visible(files: Files, life: Life) -> None:
    """Nothing that can be seen is half done, and what must be there is."""
    ids, underway = set(Store(ROOT, files).ids()), {delivery.sample.origin.id for delivery in life.deliveries}
    if isinstance(files, MemoryFiles):
        for dump_id in ids:
            assert _complete(files, dump_id) or dump_id in underway
    wanted = {DELETED.origin.id, BYSTANDER.origin.id}
    wanted.update(each.sample.origin.id for each in life.deliveries if each.sessions)
    assert ids >= wanted - life.deleting, "a dump is missing"
    assert not life.deleted & ids, "a deleted dump is back"


_sound: Final[dict[bytes, bool]] = {}


def _complete(disk: MemoryFiles, dump_id: str) -> bool:
    """Whether a dump is complete; it has to be sound. The same content need not be verified twice."""
    known = fingerprint(disk, f"{dump_id}/")
    if known not in _sound:
        report = Store(ROOT, disk).dump(dump_id).verify()
        assert report.ok, report.findings
        _sound[known] = report.complete
    return _sound[known]
