"""The store: a folder of dumps (store.md section 1).

Owns which dumps there are, how one is opened for writing, and how one is deleted. What is inside a dump belongs to
DumpWriter and Dump.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from netdump.errors import AmbiguousIdError, BusyError, DumpNotFoundError
from netdump.store.documents import find_origin, parse_headline, read_headline, read_manifest, read_receipt
from netdump.store.dump import Dump
from netdump.store.durable import dump_faults, storage_faults, write_durably
from netdump.store.files import LocalFiles
from netdump.store.findings import DamageFoundError
from netdump.store.layout import (
    HEADLINE,
    LOCK,
    ORIGIN,
    PARTIAL,
    SEGMENTS,
    TRASH,
    TRIAL,
    checked_id,
    is_dump_id,
    segment_range,
)
from netdump.store.origin import check_offer
from netdump.store.recovery import Recovery, follow_manifest, recover, sound_part
from netdump.store.writer import DumpWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.store.files import Files, Lock
    from netdump.store.origin import Origin

TIDY_S: Final = 60.0  # between two looks, of deletions that follow each other, at what others may have left
_SHOWN: Final = 5  # candidates named when a shortened id fits several dumps


class Store:
    """All dumps below root (a collector's DIR/dumps). Safe for several threads and processes: locks are per dump.

    Every method may raise StorageFaultError.
    """

    def __init__(self, root: Path, files: Files | None = None, clock: Callable[[], float] = time.time) -> None:
        """root: made with its first dump if it is not there, but not its parent.

        files: the operations on it, for tests.

        clock: seconds since 1970, stamped into manifests.
        """
        self.root: Final = root
        self._clock: Final = clock
        self._next_tidy = 0.0  # of time.monotonic
        self._files: Final[Files] = LocalFiles(root) if files is None else files
        if files is None:
            with storage_faults(f"making the folder {root}"):
                if not root.exists():
                    root.mkdir(mode=0o700, exist_ok=True)
                    LocalFiles(root.parent).sync_folder("")

    def ids(self) -> list[str]:
        """The ids of all dumps, sorted. Asks for a file of each: see candidates."""
        return [name for name in self.candidates() if self.holds(name)]

    def candidates(self) -> list[str]:
        """The ids of all dumps, sorted, and of folders that are not dumps yet: see holds."""
        with storage_faults(f"listing the dumps in {self.root}"):
            return [name for name in self._files.names("") if is_dump_id(name)]

    def holds(self, dump_id: str) -> bool:
        """Whether that is a dump. A folder without origin is not one yet; one that cannot be looked at is."""
        try:
            return is_dump_id(dump_id) and self._files.status(f"{dump_id}/{ORIGIN}") is not None
        except OSError:
            return True  # what is wrong with it comes out when it is opened; the other dumps are not to blame

    def resolve(self, prefix: str) -> str:
        """The id that begins with prefix (case does not matter). Raises DumpNotFoundError, AmbiguousIdError."""
        wanted = prefix.lower()
        if is_dump_id(wanted) and self.holds(wanted):
            return wanted  # without a list of all dumps, which may be hundreds of thousands
        fitting = [name for name in self.candidates() if name.startswith(wanted) and self.holds(name)]
        if not fitting or not wanted:
            raise DumpNotFoundError(
                f"there is no dump {prefix!r}: `netdump list` shows the ids of those that there are"
            )
        if len(fitting) > 1:
            shown = ", ".join(fitting[:_SHOWN]) + (", ..." if len(fitting) > _SHOWN else "")
            raise AmbiguousIdError(f"{prefix!r} fits {len(fitting)} dumps: {shown}; give more digits")
        return fitting[0]

    def dump(self, dump_id: str) -> Dump:
        """A dump to read. dump_id: whole. Raises DumpNotFoundError."""
        with storage_faults(f"looking for dump {checked_id(dump_id)}"):
            if self._files.status(dump_id) is None:
                raise DumpNotFoundError(f"there is no dump {dump_id} in {self.root}")
        return Dump(self._files, self.root, dump_id)

    def open_writer(
        self,
        origin: Origin,
        *,
        is_known: bool = False,
        distrust: bool = False,
        keep_on: Callable[[], None] = lambda: None,
    ) -> DumpWriter:
        """Create a dump or go on with it, as its only writer. The origin is durable when this returns ([S-15]).

        What an earlier writer left unfinished is removed. is_known: the dump was there; if it was deleted since, none
        is created. distrust: what is stored of it was found damaged; if it is not complete every chunk is read, and it
        goes on from the first segment that is not sound, which takes as long as reading all of it does. keep_on: called
        before each segment that is read so, may raise to stop.

        Raises OwnerError (another host's; before anything else is looked at, [W-32]), MismatchError ([W-31]), BusyError
        (another writer, or the dump is being restored or deleted), DamagedError (its documents, or the segments of its
        manifest).
        """
        with dump_faults("opening", origin.id):
            if (known := find_origin(self._files, origin.id)) is not None:
                check_offer(known, origin)
            elif is_known:
                raise _deleted(origin.id)
            lock = self._take_lock(origin.id) if is_known else self._lock_for_writing(origin.id)
            try:
                return self._open_locked(origin, lock, keep_on if distrust else None)
            except BaseException:
                with suppress(OSError):
                    lock.release()
                raise

    def delete(self, dump_id: str) -> None:
        """Delete a dump. It is gone when this returns, and all of it or nothing after a crash. Spec: [S-06].

        What deletions cut short have left of others is removed too, once in a while. Raises DumpNotFoundError,
        BusyError.
        """
        checked_id(dump_id)
        with dump_faults("deleting", dump_id):
            if self._files.status(dump_id) is None:
                raise DumpNotFoundError(f"there is no dump {dump_id} in {self.root}")
            lock = self._take_lock(dump_id)
            try:
                trash = self._throw_away(dump_id)
            finally:
                lock.release()
            self._remove_tree(trash)
            if time.monotonic() < self._next_tidy:
                return  # a list of all dumps for each of thousands that are deleted would be most of the work
            self._next_tidy = time.monotonic() + TIDY_S
            with suppress(OSError):  # this dump is gone; the next start of a collector says what cannot be removed
                for name in self._files.names(""):
                    if name.startswith(TRASH):
                        with suppress(OSError):
                            self._remove_tree(name)

    def empty_trash(self, keep_on: Callable[[], None] = lambda: None) -> None:
        """Remove what deletions cut short have left, folders of dumps that never came to be, and unfinished files.

        Of a dump that is incomplete, or has no room for its ``vmcore``, nobody else may ever remove those. Harmless at
        any time, also beside a deletion that is going on. keep_on: called for each folder, may raise to stop.
        """
        stays: OSError | None = None
        with storage_faults(f"emptying the trash of {self.root}"):
            for name in self._files.names(""):
                keep_on()
                if name.startswith(TRASH):
                    try:
                        self._remove_tree(name)
                    except OSError as error:  # no reason for all the others to stay, too
                        stays = stays or error
                elif is_dump_id(name):
                    # What cannot be looked at or locked now is tried again at the next start; it is in nobody's way.
                    with suppress(OSError, BusyError):
                        self._tidy(name)
            if stays is not None:
                raise stays

    def try_out(self) -> None:
        """Find out whether a small file can be made durable here, and removed."""
        with storage_faults(f"trying to write in {self.root}"):
            write_durably(self._files, TRIAL, b"may be removed at any time\n")
            self._files.unlink(TRIAL)

    def _lock_for_writing(self, dump_id: str) -> Lock:
        """The lock of a dump whose folders are there and durable."""
        with suppress(FileExistsError):
            self._files.make_folder(dump_id)
        with suppress(FileExistsError), _deleted_is_busy(dump_id):
            self._files.make_folder(f"{dump_id}/{SEGMENTS}")
        return self._take_lock(dump_id)

    def _take_lock(self, dump_id: str) -> Lock:
        try:
            with _deleted_is_busy(dump_id):
                return self._files.lock(f"{dump_id}/{LOCK}")
        except BlockingIOError:
            raise BusyError(f"dump {dump_id} is being written, restored or deleted; try again later") from None

    def _open_locked(self, origin: Origin, lock: Lock, distrusting: Callable[[], None] | None) -> DumpWriter:
        """distrusting: keep_on, if what is stored is distrusted."""
        files, dump_id = self._files, origin.id
        # A name that is there need not be durable: its maker may have been killed before it synced the folder. So
        # everything that is about to be counted is synced once more, also what this call has just made.
        self._remove_partials(dump_id)
        for folder in (f"{dump_id}/{SEGMENTS}", dump_id, ""):
            files.sync_folder(folder)
        known = find_origin(files, dump_id)
        if known is None:
            write_durably(files, f"{dump_id}/{ORIGIN}", origin.pack())
            known = origin
        else:
            check_offer(known, origin)
        manifest = read_manifest(files, dump_id, known)
        if manifest is None:
            recovery = recover(files, dump_id, known.image_bytes)
            if distrusting is not None:
                recovery = sound_part(files, dump_id, known.image_bytes, recovery, distrusting)
                self._remove_bad_headline(dump_id)
            self._remove_unused(known, recovery)
        else:
            recovery = follow_manifest(files, manifest)
            if recovery.findings:
                raise DamageFoundError(recovery.findings[0])
        return DumpWriter(
            files,
            lock,
            known,
            recovery,
            manifest=manifest,
            has_headline=read_headline(files, dump_id) is not None,
            receipt=read_receipt(files, dump_id),
            clock=self._clock,
        )

    def _throw_away(self, dump_id: str) -> str:
        """Take a folder out of the store in one step. The caller holds the lock. Returns what is to be removed now."""
        trash = f"{TRASH}{dump_id}-{secrets.token_hex(8)}"
        self._files.rename(dump_id, trash)
        self._files.sync_folder("")
        return trash

    def _tidy(self, name: str) -> None:
        """Remove the unfinished files of a dump, and its folder if its origin never became durable.

        Segments without origin are kept: the origin was lost then. Raises OSError, BusyError.
        """
        found = self._contents(name)
        if found and not any(each.endswith(PARTIAL) for each in found):
            return
        lock = self._take_lock(name)
        try:
            if not self._is_stillborn(name):
                self._remove_partials(name)
                return
            trash = self._throw_away(name)
        finally:
            lock.release()
        self._remove_tree(trash)

    def _is_stillborn(self, name: str) -> bool:
        """Whether nothing of value is in the folder of a dump."""
        return all(each.endswith(PARTIAL) for each in self._contents(name))

    def _contents(self, name: str) -> set[str]:
        """The names of the files in the folder of a dump, but for its lock."""
        found = set(self._files.names(name)) - {LOCK}
        if SEGMENTS in found:
            found.remove(SEGMENTS)
            found.update(self._files.names(f"{name}/{SEGMENTS}"))
        return found

    def _remove_partials(self, dump_id: str) -> None:
        """Remove what is worthless by its name, [S-02]. The caller holds the lock."""
        for folder in (dump_id, f"{dump_id}/{SEGMENTS}"):
            for name in self._files.names(folder):
                if name.endswith(PARTIAL):
                    self._remove_file(f"{folder}/{name}")

    def _remove_unused(self, origin: Origin, recovery: Recovery) -> None:
        """Remove the segments outside the durable run, [S-23]: their names must be free for what comes next."""
        used = {link.info.name for link in recovery.links}
        folder = f"{origin.id}/{SEGMENTS}"
        for name in self._files.names(folder):
            if segment_range(name) is not None and name not in used:
                self._remove_file(f"{folder}/{name}")

    def _remove_bad_headline(self, dump_id: str) -> None:
        """The host sends it again if it is not there."""
        try:
            if (raw := read_headline(self._files, dump_id)) is not None:
                parse_headline(raw, None)
        except DamageFoundError:
            self._remove_file(f"{dump_id}/{HEADLINE}")

    def _remove_file(self, name: str) -> None:
        """Remove what is not a folder: a folder is nothing that store.md names ([S-01])."""
        status = self._files.status(name)
        if status is not None and not status.is_folder:
            self._files.unlink(name)

    def _remove_tree(self, name: str) -> None:
        """Remove a folder and all in it; that another one does the same at this moment is no error."""
        with suppress(FileNotFoundError):
            for inner in self._files.names(name):
                path = f"{name}/{inner}"
                status = self._files.status(path)
                if status is not None and status.is_folder:
                    self._remove_tree(path)
                elif status is not None:
                    with suppress(FileNotFoundError):
                        self._files.unlink(path)
            self._files.remove_folder(name)


@contextmanager
def _deleted_is_busy(dump_id: str) -> Iterator[None]:
    """Its folder may go away after we have seen or made it: a deletion was faster."""
    try:
        yield
    except FileNotFoundError:
        raise _deleted(dump_id) from None


def _deleted(dump_id: str) -> BusyError:
    return BusyError(f"dump {dump_id} is being deleted; try again later")
