"""The store's file operations in memory, with power cuts.

Knows for every file and folder what has been synced and what has not. A power cut keeps the first and does what it
likes with the second: each write and each change of a name since the last sync may have reached the disk or not, in
any combination, and a write may have reached it by half: Luck decides. A real file system is kinder; what survives
here survives there. Method: ALICE (OSDI 2014).
"""

from __future__ import annotations

import errno
import os
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from netdump.namedtuple import NamedTuple
from netdump.store.files import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from netdump.store.files import Buffer


def _error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)


class Luck(Protocol):
    """Decides what of the changes that were not synced a power cut leaves on the disk."""

    def write(self, change: Change) -> Iterable[tuple[int, bytes | None]]:
        """What reached the disk of a change of content: data at positions, or None for a length; nothing, all, parts.

        b"" at a position makes the file as long as that, if it is shorter, with zeros.
        """

    def names(self, change: NameChange) -> bool:
        """Whether a change of names reached the disk."""


class Change(NamedTuple):
    """A write that was not synced. number: counts all changes of a disk; data: None for a length set to position."""

    number: int
    position: int
    data: bytes | None


class NameChange(NamedTuple):
    """Names of one folder that changed together and were not synced: what each stands for since, None: nothing."""

    number: int
    names: dict[str, _Content | _Folder | None]


class ByChance:
    """Luck by a random number generator: a write gets through, or not, or by half, or as mere length."""

    def __init__(self, random: Random) -> None:
        self._random: Final = random

    def write(self, change: Change) -> Iterable[tuple[int, bytes | None]]:
        """See Luck."""
        luck, (_, position, data) = self._random.random(), change
        if luck < 0.4:
            return [(position, data)]
        if luck < 0.6 and data is not None:
            return [(position, data[: self._random.randrange(len(data) + 1)])]
        if luck < 0.7 and data is not None:
            return [(position + len(data), b"")]
        return []

    def names(self, change: NameChange) -> bool:  # noqa: ARG002
        """See Luck."""
        return self._random.random() < 0.5


class NoLuck:
    """Nothing that was not synced is there."""

    def write(self, change: Change) -> Iterable[tuple[int, bytes | None]]:  # noqa: ARG002
        """See Luck."""
        return ()

    def names(self, change: NameChange) -> bool:  # noqa: ARG002
        """See Luck."""
        return False


class _Content:
    """What is in a file. waiting: changes since the last sync."""

    __slots__ = ("durable", "now", "waiting")

    def __init__(self) -> None:
        self.now = bytearray()
        self.durable = bytearray()
        self.waiting: list[Change] = []

    def change(self, change: Change) -> None:
        """Write, or set the length."""
        _apply(self.now, change.position, change.data)
        self.waiting.append(change)

    def sync(self) -> None:
        """Make what waits durable; what was forgotten before stays lost."""
        for change in self.waiting:
            _apply(self.durable, change.position, change.data)
        self.waiting.clear()

    def after_cut(self, luck: Luck) -> _Content:
        """What is found after a power cut."""
        found = bytearray(self.durable)
        for change in self.waiting:
            for position, data in luck.write(change):
                _apply(found, position, data)
        after = _Content()
        after.now, after.durable = found, bytearray(found)
        return after


def _apply(content: bytearray, position: int, data: bytes | None) -> None:
    if data is None:
        del content[position:]
    if position > len(content):
        content.extend(bytes(position - len(content)))
    if data:
        content[position : position + len(data)] = data


class _Folder:
    """What is in a folder. waiting: changes of names since the last sync."""

    __slots__ = ("durable", "now", "waiting")

    def __init__(self) -> None:
        self.now: dict[str, _Content | _Folder] = {}
        self.durable: dict[str, _Content | _Folder] = {}
        self.waiting: list[NameChange] = []

    def change(self, change: NameChange) -> None:
        """Let each name stand for that, or for nothing."""
        _rename(self.now, change.names)
        self.waiting.append(change)

    def sync(self) -> None:
        """Make all names durable."""
        self.durable = dict(self.now)
        self.waiting.clear()

    def after_cut(self, luck: Luck) -> _Folder:
        """What is found after a power cut."""
        found = dict(self.durable)
        for change in self.waiting:
            if luck.names(change):
                _rename(found, change.names)
        after = _Folder()
        after.now = {name: inner.after_cut(luck) for name, inner in found.items()}
        after.durable = dict(after.now)
        return after

    def unsynced(self) -> Iterator[Change | NameChange]:
        """Every change below that a power cut could still undo, in no order."""
        yield from self.waiting
        inner = {id(what): what for what in [*self.now.values(), *self.durable.values()]}
        inner.update((id(what), what) for change in self.waiting for what in change.names.values() if what is not None)
        for what in inner.values():
            if isinstance(what, _Folder):
                yield from what.unsynced()
            else:
                yield from what.waiting


def _rename(entries: dict[str, _Content | _Folder], names: dict[str, _Content | _Folder | None]) -> None:
    for name, what in names.items():
        if what is None:
            entries.pop(name, None)
        else:
            entries[name] = what


class MemoryFiles:
    """Files in memory. Spec of the methods: netdump.store.files.Files. For one thread."""

    def __init__(self) -> None:
        self._root = _Folder()
        self._locks: Final[set[str]] = set()
        self._numbers: Final = count()

    def cut_power(self, random: Random | None = None) -> None:
        """Lose what is not durable, and every lock. random: decides what of it is kept by luck; None: nothing."""
        self._root = self._root.after_cut(NoLuck() if random is None else ByChance(random))
        self._locks.clear()

    def after_power_cut(self, luck: Luck | None = None) -> MemoryFiles:
        """The disk as a power cut now would leave it, as another one; this one stays as it is. luck: None: none."""
        other = MemoryFiles()
        other._root = self._root.after_cut(luck or NoLuck())
        return other

    def unsynced(self) -> list[Change | NameChange]:
        """Every change that a power cut now could undo, in the order in which they were made."""
        return sorted(self._root.unsynced(), key=lambda change: change.number)

    def content(self, name: str) -> bytearray:
        """The bytes of a file, for tests to look at and to damage."""
        found = self._find(name)
        assert isinstance(found, _Content)
        return found.now

    def all_names(self) -> list[str]:
        """The names of all files."""
        found: list[str] = []

        def walk(folder: _Folder, prefix: str) -> None:
            for name, inner in folder.now.items():
                if isinstance(inner, _Folder):
                    walk(inner, f"{prefix}{name}/")
                else:
                    found.append(prefix + name)

        walk(self._root, "")
        return sorted(found)

    def create(self, name: str) -> MemoryFile:
        """A new file, whose name is not durable."""
        folder, last = self._place(name)
        if last in folder.now:
            raise _error(errno.EEXIST, name)
        content = _Content()
        self._change(folder, {last: content})
        return MemoryFile(content, self._numbers)

    def open(self, name: str) -> MemoryFile:
        """A file that is there."""
        found = self._find(name)
        if isinstance(found, _Folder):
            raise _error(errno.ENOENT, name)
        return MemoryFile(found, self._numbers)

    def rename(self, old: str, new: str) -> None:
        """Within one folder only: both names change together."""
        folder, old_last = self._place(old)
        new_folder, new_last = self._place(new)
        assert folder is new_folder, "the store renames within a folder only"
        self._change(folder, {old_last: None, new_last: self._find(old)})

    def unlink(self, name: str) -> None:
        """Not durable."""
        self._remove(name, _Content)

    def make_folder(self, name: str) -> None:
        """Not durable."""
        folder, last = self._place(name)
        if last in folder.now:
            raise _error(errno.EEXIST, name)
        self._change(folder, {last: _Folder()})

    def remove_folder(self, name: str) -> None:
        """Not durable."""
        found = self._find(name)
        if isinstance(found, _Folder) and found.now:
            raise _error(errno.ENOTEMPTY, name)
        self._remove(name, _Folder)

    def sync_folder(self, name: str) -> None:
        """Make the names in it durable, not what they stand for."""
        self._folder(name).sync()

    def names(self, folder: str) -> list[str]:
        """Sorted."""
        return sorted(self._folder(folder).now)

    def status(self, name: str) -> Status | None:
        """Without holes."""
        try:
            found = self._find(name)
        except FileNotFoundError:
            return None
        if isinstance(found, _Folder):
            return Status(0, 0, is_folder=True)
        return Status(len(found.now), len(found.now), is_folder=False)

    def lock(self, name: str) -> MemoryLock:
        """Made if need be."""
        folder, last = self._place(name)
        if last not in folder.now:
            self._change(folder, {last: _Content()})
        if name in self._locks:
            raise _error(errno.EWOULDBLOCK, name)
        self._locks.add(name)
        return MemoryLock(self._locks, name)

    def _remove(self, name: str, kind: type[_Content | _Folder]) -> None:
        found = self._find(name)
        if not isinstance(found, kind):
            raise _error(errno.EISDIR if isinstance(found, _Folder) else errno.ENOTDIR, name)
        folder, last = self._place(name)
        self._change(folder, {last: None})

    def _change(self, folder: _Folder, names: dict[str, _Content | _Folder | None]) -> None:
        folder.change(NameChange(next(self._numbers), names))

    def _place(self, name: str) -> tuple[_Folder, str]:
        parent, _, last = name.rpartition("/")
        return self._folder(parent), last

    def _folder(self, name: str) -> _Folder:
        found: _Content | _Folder = self._root
        for part in name.split("/") if name else ():
            if not isinstance(found, _Folder):
                raise _error(errno.ENOTDIR, name)
            if part not in found.now:
                raise _error(errno.ENOENT, name)
            found = found.now[part]
        if not isinstance(found, _Folder):
            raise _error(errno.ENOTDIR, name)
        return found

    def _find(self, name: str) -> _Content | _Folder:
        folder, last = self._place(name)
        if last not in folder.now:
            raise _error(errno.ENOENT, name)
        return folder.now[last]


class MemoryFile:
    """File in memory."""

    def __init__(self, content: _Content, numbers: Iterator[int]) -> None:
        self._content: Final = content
        self._numbers: Final = numbers
        self._end = 0
        self._open = True

    def read(self, position: int, length: int) -> bytes:
        """What is there now, synced or not."""
        return bytes(self._at_work().now[position : position + length])

    def size(self) -> int:
        """The length now."""
        return len(self._at_work().now)

    def next_data(self, position: int) -> int:
        """It knows no holes."""
        self._at_work()
        return position

    def write(self, data: Buffer) -> None:
        """Behind what this object has written."""
        self.write_at(self._end, data)
        self._end += len(data)

    def write_at(self, position: int, data: Buffer) -> None:
        """Not durable."""
        self._at_work().change(Change(next(self._numbers), position, bytes(data)))

    def resize(self, size: int) -> None:
        """Not durable."""
        self._at_work().change(Change(next(self._numbers), size, None))

    def sync(self) -> None:
        """The content; not the name."""
        self._at_work().sync()

    def forget_unsynced(self) -> None:
        """Writing back has failed: what waits is dropped, though it can still be read until power goes.

        Spec: [S-04].
        """
        self._at_work().waiting.clear()

    def close(self) -> None:
        """Idempotent."""
        self._open = False

    def _at_work(self) -> _Content:
        if not self._open:
            raise _error(errno.EBADF, "")
        return self._content


class MemoryLock:
    """Lock in memory."""

    def __init__(self, held: set[str], name: str) -> None:
        self._held: Final = held
        self._name: Final = name
        self._holding = True

    def release(self) -> None:
        """Idempotent."""
        if self._holding:
            self._holding = False
            self._held.discard(self._name)
