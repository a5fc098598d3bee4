"""The folder beside a file that is being fetched, FILE.netdump-partial: what has come so far, and the image being made.

Owns these files, from the first byte to the final name. Must not believe them: an interruption may have left anything.
A segment is there as it came, whole or in part; or as its skeleton, when its data stand in the image and nowhere else.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import AlreadyExistsError, StorageFaultError
from netdump.store.durable import TOO_LARGE, discard, drop
from netdump.store.files import LocalFiles
from netdump.store.layout import PARTIAL
from netdump.store.restore import INCOMPLETE, LOCK, read_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.store.files import Buffer
    from netdump.store.segment import SegmentReader

SUFFIX: Final = ".netdump-partial"

SKELETON_BYTES: Final = 8192
"""What a chunk takes of a skeleton: a block, at times two, for it is hardly ever next to another one's."""

_SKELETON: Final = ".skeleton"

_HOLE_BYTES: Final = 16 << 20  # more than any block, and mostly more than others write meanwhile

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


class Staging:
    """Made for one target. Every method raises StorageFaultError when the disk does not go along.

    Segments may be appended to from several threads, each by one at a time.
    """

    __slots__ = ("_folder", "_target", "has_holes", "tells_holes")

    def __init__(self, target: Path) -> None:
        self.tells_holes = True
        """Whether the file system says where files have holes. NFS before 4.2 does not: there what should be zeros
        in an image that is taken up must be read, all of it. Known after make()."""
        self.has_holes = True
        """Whether zeros that were never written take no room. On vfat and exfat they do. Known after make()."""
        self._target: Final = target
        self._folder: Final = target.with_name(target.name + SUFFIX)

    @property
    def image(self) -> Path:
        """What the image is called until it gets its final name."""
        return self._folder / "image"

    @property
    def output(self) -> Path:
        """What a file of another format, made of the image, is called until it gets its final name."""
        return self._folder / "output"

    def make(self, size: int = 0) -> None:
        """Make the folder, or take over the one that an interruption left, without what cannot be of use.

        size: bytes of the image to come; a file system that takes no file of that size is refused.
        """
        with disk_faults(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.is_symlink():  # all that is in it would be removed, whoever's it is
                raise StorageFaultError(
                    f"{self._folder} is a link, and what it leads to is never written to: remove it, or fetch to "
                    "another place with -o"
                )
            try:
                self._probe(size)
            except OSError:
                self.remove_if_empty()
                raise
            for entry in list(os.scandir(self._folder)):
                if not entry.is_file(follow_symlinks=False):  # it would stand where a file should
                    with suppress(FileNotFoundError):
                        _remove(self._folder / entry.name)

    def _probe(self, size: int) -> None:
        """See what becomes of a file that is made in the folder."""
        files, name = LocalFiles(self._folder), f"probe-{os.getpid()}"
        discard(files, name)
        file = files.create(name)
        try:
            free = self.free_bytes()
            file.resize(_HOLE_BYTES)
            self.tells_holes = file.next_data(0) > 0
            # CIFS makes up the blocks of a file from its size until it asks its server: no room is gone then.
            full = (self._folder / name).stat().st_blocks * 512 >= _HOLE_BYTES
            self.has_holes = not full or free - self.free_bytes() < _HOLE_BYTES // 2
            self._check_limit(name, size)
            if not file.is_only(self._folder.stat().st_uid):
                raise StorageFaultError(
                    f"{self._folder} belongs to another user: go on as that user, or remove it and begin anew"
                )
        finally:
            drop(files, file, name)

    def _check_limit(self, name: str, size: int) -> None:
        """Found now rather than where writing comes to that limit. A place beyond it is refused, and costs nothing."""
        with (self._folder / name).open("rb", buffering=0) as file:
            try:
                file.seek(size)
            except OSError as error:
                raise OSError(errno.EFBIG, f"a file of {size:,} bytes is too large for it") from error

    def free_bytes(self) -> int:
        """What may still be written on the file system of the target."""
        with disk_faults(self._target.parent):
            return shutil.disk_usage(self._target.parent).free

    def segment(self, name: str) -> Path:
        """Where a segment is kept as it came. name: one that was checked."""
        return self._folder / name

    def has_skeleton(self, name: str) -> bool:
        """Whether the data of that segment should stand in the image."""
        with disk_faults(self._folder):
            return os.path.lexists(self._skeleton(name))

    def has_skeletons(self) -> bool:
        """Whether data of any segment should."""
        with disk_faults(self._folder), suppress(FileNotFoundError):
            return any(name.endswith(_SKELETON) for name in os.listdir(self._folder))
        return False

    def discard_finished(self) -> None:
        """Remove finished images that nobody takes up. For who has the lock of the image."""
        with disk_faults(self._folder):
            for path in (self.image, self.image.with_name(self.image.name + INCOMPLETE)):
                path.unlink(missing_ok=True)

    def image_disk_bytes(self) -> int:
        """What the image occupies, as far as it has come."""
        with disk_faults(self._folder):
            return sum(path.lstat().st_blocks * 512 for path in self._folder.glob(f"{self.image.name}*"))

    def size(self, name: str) -> int:
        """Bytes of a segment that have come."""
        with disk_faults(self._folder):
            for path in (self._skeleton(name), self.segment(name)):
                with suppress(FileNotFoundError):
                    return path.lstat().st_size
        return 0

    def reader(self, name: str, dump_id: bytes) -> SegmentReader:
        """A segment, or its skeleton, for its table and its run tables. Raises DamageFoundError too."""
        path = self._skeleton(name) if self.has_skeleton(name) else self.segment(name)
        return read_segment(path, name, dump_id)

    def keep_skeleton(self, segment: SegmentReader) -> None:
        """Note that the data of a segment stand in the image. Its file, if it has one, goes away."""
        with disk_faults(self._folder):
            files = LocalFiles(self._folder)
            name = self._skeleton(segment.name).name
            discard(files, name + PARTIAL)
            file = files.create(name + PARTIAL)
            try:
                segment.write_skeleton(file)
            finally:
                file.close()
            files.rename(name + PARTIAL, name)
            self.segment(segment.name).unlink(missing_ok=True)

    def discard(self, name: str) -> None:
        """Forget what has come of a segment."""
        with disk_faults(self._folder):
            self._skeleton(name).unlink(missing_ok=True)
            self.segment(name).unlink(missing_ok=True)

    def _skeleton(self, name: str) -> Path:
        return self._folder / (name + _SKELETON)

    def append(self, name: str, pieces: Iterator[Buffer]) -> None:
        """Add pieces to what has come of a segment; each is on its way to the disk before the next one is asked for."""
        with disk_faults(self._folder):
            # Nobody may ever read from a pipe of that name.
            descriptor = os.open(self.segment(name), _APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            with disk_faults(self._folder):
                found = os.fstat(descriptor)
                if found.st_nlink > 1 or found.st_uid != self._folder.stat().st_uid:
                    raise PermissionError(errno.EPERM, f"{name} is somebody else's file too")
            for piece in pieces:
                with disk_faults(self._folder):
                    _write_all(descriptor, piece)
        finally:
            os.close(descriptor)

    def place(self, image: Path, final: Path, *, replace: bool) -> None:
        """Give a finished, durable image its final name. Raises AlreadyExistsError without replace."""
        with disk_faults(final):
            if replace:
                refuse_existing(final, replace=True)
                image.replace(final)
            else:
                _move_to_new(image, final)
            folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove_if_empty(self) -> None:
        """Remove the folder if there is nothing in it to go on with."""
        with suppress(OSError):
            self._folder.rmdir()

    def clear(self) -> None:
        """Remove all that is in the folder, but the lock of the image: while that is held all of it is ours.

        What cannot be removed is left: the fetched file is there.
        """
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name != self.image.name + LOCK:
                    with suppress(OSError):
                        _remove(path)


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into StorageFaultError."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            advice = "make room and run the same command again: it goes on"
        else:
            advice = TOO_LARGE if error.errno == errno.EFBIG else "check the folder and the disk"
        raise StorageFaultError(f"{path}: {error.strerror or error}; {advice}") from error


def refuse_existing(path: Path, *, replace: bool = False) -> None:
    """Raises AlreadyExistsError if anything has that name; to replace it, if it is no file.

    /dev/null is not for us, nor is /dev/stdout, which is a link.
    """
    with disk_faults(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise AlreadyExistsError(
                f"{path} is not a file, and is never replaced: choose another name with -o; "
                "into a pipe or a device goes `-o - > NAME`"
            )
        if not replace:
            raise AlreadyExistsError(f"{path} exists: choose another name with -o, or replace it with --force")


def _remove(path: Path) -> None:
    """Remove a file, or whatever else has its name. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write_all(descriptor: int, data: Buffer) -> None:
    done = os.write(descriptor, data)
    while done < len(data):
        # A short write is the last one before the reason shows.
        done += os.write(descriptor, memoryview(data)[done:])


def _move_to_new(image: Path, final: Path) -> None:
    """rename(2) would replace what somebody has made meanwhile; link(2) does not, where the file system has it."""
    try:
        os.link(image, final)
    except FileExistsError:
        refuse_existing(final)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        refuse_existing(final)
        image.rename(final)
    else:
        with suppress(FileNotFoundError):
            image.unlink()
