"""The states that a power cut may leave of a disk, one by one: which of the changes since the last sync got through.

For n changes that wait there are more than 2^n states. Enumerated are those in which file systems differ from each
other: nothing and everything; the changes up to each one, in order (a journal); all but one, and one alone (reordered:
a rename without the data of its file, data without its name, a later write without an earlier one); and with each
write cut at sectors of 512 bytes and pages of 4 KiB: its beginning, its end, a piece in the middle missing, its length
without its content, its length with what was on the disk before. Then as many by chance as are wanted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from netdump.testing.memory_files import ByChance, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from netdump.testing.memory_files import Luck, MemoryFiles, NameChange

SECTORS = (512, 4096)
EDGES_MOST = 4  # of a write at which it is torn, of each size
OLD_CONTENT = b"\xa5"

Pieces = list[tuple[int, bytes | None]]


class Plan(NamedTuple):
    """One state: Luck that is decided. others: whether changes get through that are not in these. writes, names: by
    number of the change."""

    others: bool
    writes: dict[int, Pieces]
    kept: dict[int, bool]

    def write(self, change: Change) -> Iterable[tuple[int, bytes | None]]:
        if change.number in self.writes:
            return self.writes[change.number]
        return [(change.position, change.data)] if self.kept.get(change.number, self.others) else []

    def names(self, change: NameChange) -> bool:
        return self.kept.get(change.number, self.others)


def plans(changes: list[Change | NameChange], random: Random, by_chance: int) -> Iterator[Luck]:
    """All states for these changes, then so many by chance."""
    yield Plan(False, {}, {})
    yield Plan(True, {}, {})
    for number, change in enumerate(changes):
        yield Plan(False, {}, {each.number: True for each in changes[: number + 1]})
        yield Plan(True, {}, {change.number: False})
        yield Plan(False, {}, {change.number: True})
    for change in changes:
        if isinstance(change, Change) and change.data:
            for pieces in _torn(change.position, change.data, random):
                yield Plan(True, {change.number: pieces}, {})
                yield Plan(
                    False,
                    {change.number: pieces},
                    {each.number: True for each in changes if each is not change and not isinstance(each, Change)},
                )
    if changes:
        for _ in range(by_chance):
            yield ByChance(random)


def _torn(position: int, data: bytes, random: Random) -> Iterator[Pieces]:
    end = position + len(data)
    yield [(end, b"")]
    yield [(position, OLD_CONTENT * len(data))]
    for sector in SECTORS:
        edges = list(range(position - position % sector + sector, end, sector))
        if len(edges) > EDGES_MOST:
            edges = sorted({edges[0], edges[-1], *random.sample(edges, EDGES_MOST - 2)})
        for edge in edges:
            cut = edge - position
            yield [(position, data[:cut])]
            yield [(edge, data[cut:])]
            yield [(position, data[:cut]), (min(edge + sector, end), data[cut + sector :])]
            yield [(position, data[:cut] + OLD_CONTENT * (len(data) - cut))]


def fingerprint(disk: MemoryFiles, below: str = "") -> bytes:
    """What is on a disk, to tell states apart. below: how the names begin that are looked at."""
    digest = hashlib.sha256()
    for name in disk.all_names():
        if not name.startswith(below):
            continue
        content = disk.content(name)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()
