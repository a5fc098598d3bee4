"""The record of a dump, made from what the store holds and nothing else: so an index can always be made again.

Owns what each column means in terms of files, and the choice of a state. Must not write, and must not know the index.
Costs the small files of a dump, and of an incomplete one the tables of its segments; no page data is read.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netdump.analyze.panic import panic_line
from netdump.errors import DamagedError, DumpNotFoundError, StorageFaultError
from netdump.index.place import is_locked
from netdump.index.record import INTEGER_MAX, TIME_MAX, UNREADABLE, DumpRecord, State
from netdump.store.durable import storage_faults
from netdump.store.layout import HEADLINE, LOCK, ORIGIN, SEGMENTS, VMCORE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from netdump.store.dump import Dump
    from netdump.store.manifest import Manifest
    from netdump.store.segment import SegmentInfo
    from netdump.store.store import Store
    from netdump.wire import HeadlineDocument

REMARK_CHARS_MAX: Final = 500
_PANICS_KEPT: Final = 1000  # of half a KiB each
_PANICS: Final[OrderedDict[bytes, str | None]] = OrderedDict()
"""By the digest of the log. To find one takes seconds where a host means it, and every connection of it asks anew."""
_PANICS_GUARD: Final = threading.Lock()
_STATES: Final = ("data", "zero", "alias", "excluded", "lost")


def gather(store: Store, dump_id: str) -> DumpRecord:
    """The record of a dump as it stands on the disk now. dump_id: whole.

    An incomplete dump is arriving if somebody holds its lock, else interrupted. A dump whose documents are damaged, or
    that lacks a segment of its manifest, is damaged, and the remark says how; damage inside segments is for verify.
    Raises DumpNotFoundError, StorageFaultError.
    """
    with storage_faults(f"reading dump {dump_id}"):
        return _gather(store, dump_id)


def _gather(store: Store, dump_id: str) -> DumpRecord:
    folder = store.root / dump_id
    order_ns = _modified_ns(folder / ORIGIN)
    dump = store.dump(dump_id)
    try:
        origin = dump.origin
    except DamagedError as error:
        seen = order_ns // 1_000_000_000
        nobody = DumpRecord(dump_id, "", State.DAMAGED, 0, 0, 0, seen, seen, order_ns=order_ns)
        return replace(nobody, remark=_remark(error))
    created = _time(origin.created) or 0
    record = DumpRecord(
        id=dump_id,
        host=origin.host,
        state=State.DAMAGED,
        image_bytes=origin.image_bytes,
        page_bytes=origin.page_bytes,
        level=origin.level,
        first_seen=created,
        updated=created,
        drill=origin.drill,
        vmcore=os.path.lexists(folder / VMCORE),
        order_ns=order_ns,
    )
    record = _look_inside(record, dump, folder)
    if record.state is not State.COMPLETE and not store.holds(dump_id):  # then what it lacks was deleted meanwhile
        raise DumpNotFoundError(f"there is no dump {dump_id} any more")
    return record


def gather_anyway(store: Store, dump_id: str) -> DumpRecord:
    """As gather; but a dump that cannot be read now is damaged, and was_unreadable(remark).

    It is as old as its files seem to be: whoever deletes the oldest is not to take it for one of them. For lists: the
    fault of one dump must not hide the others. Raises DumpNotFoundError.
    """
    try:
        return gather(store, dump_id)
    except StorageFaultError as error:
        remark = f"{UNREADABLE}{error}"[:REMARK_CHARS_MAX]
        order_ns = _made_ns(store.root / dump_id)
        seen = order_ns // 1_000_000_000
        return DumpRecord(dump_id, "", State.DAMAGED, 0, 0, 0, seen, seen, remark=remark, order_ns=order_ns)


def is_held(folder: Path) -> bool:
    """Whether somebody holds the lock of the dump in that folder: it arrives, is restored or deleted.

    Shares the lock for a moment to find out; a writer that comes in that very moment finds the dump busy.
    Raises StorageFaultError.
    """
    with storage_faults(f"looking at the lock of dump {folder.name}"):
        return is_locked(folder / LOCK)


def _look_inside(record: DumpRecord, dump: Dump, folder: Path) -> DumpRecord:
    """Fill in what the documents beyond the origin say; where one is damaged, what was learned until then."""
    try:
        segments = dump.segments()
        record = _with_segments(record, segments)
        record = _with_headline(record, dump.headline())
        manifest = dump.manifest
        if manifest is not None:
            return _with_manifest(record, manifest, folder)
    except DamagedError as error:
        return replace(record, state=State.DAMAGED, remark=_remark(error))
    names = [HEADLINE, *(f"{SEGMENTS}/{segment.name}" for segment in segments)]
    return replace(
        record,
        state=State.ARRIVING if is_held(folder) else State.INTERRUPTED,
        updated=max([record.updated, *(_modified_ns(folder / name) // 1_000_000_000 for name in names)]),
    )


def _with_headline(record: DumpRecord, headline: HeadlineDocument | None) -> DumpRecord:
    if headline is None:
        return record
    return replace(
        record,
        kernel_release=headline.kernel_release,
        kernel_version=headline.kernel_version,
        machine=headline.machine,
        nodename=headline.nodename,
        panic=_panic_line(headline.log or b""),
        crash_time=_time(headline.crash_time),
        remark=headline.remark,
    )


def _panic_line(log: bytes) -> str | None:
    """As panic_line, and soon for a log that was looked at lately."""
    key = hashlib.sha256(log).digest()
    with _PANICS_GUARD:
        if key in _PANICS:
            _PANICS.move_to_end(key)
            return _PANICS[key]
    line = panic_line(log)
    with _PANICS_GUARD:
        _PANICS[key] = line
        if len(_PANICS) > _PANICS_KEPT:
            _PANICS.popitem(last=False)
    return line


def _with_manifest(record: DumpRecord, manifest: Manifest, folder: Path) -> DumpRecord:
    record = replace(
        _with_segments(record, manifest.segments),  # it may have come since they were looked at
        completed=_time(manifest.completed),
        updated=_time(manifest.completed) or record.updated,
        remark="; ".join(filter(None, (record.remark, manifest.remark))) or None,
        root=manifest.root.hex(),
        totals={state: getattr(manifest.totals, state) for state in _STATES},
        excluded={reason.name.lower(): size for reason, size in manifest.totals.excluded_by.items()},
    )
    for segment in manifest.segments:
        size = _size(folder / SEGMENTS / segment.name)
        if size != segment.file_bytes:
            found = "is missing" if size is None else f"has {size} bytes instead of {segment.file_bytes}"
            return replace(record, state=State.DAMAGED, remark=f"the segment {segment.name} {found}")
    return replace(record, state=State.COMPLETE)


def _with_segments(record: DumpRecord, segments: Iterable[SegmentInfo]) -> DumpRecord:
    """segments: those that count, in order."""
    end = chunks = stored = 0
    for segment in segments:
        end = segment.end
        chunks += segment.chunks
        stored += segment.file_bytes
    return replace(record, durable_bytes=end, chunks=min(chunks, INTEGER_MAX), stored_bytes=min(stored, INTEGER_MAX))


def _remark(error: DamagedError) -> str:
    return str(error)[:REMARK_CHARS_MAX]


def _time(seconds: int | None) -> int | None:
    """A time that can be written; a host or a file may hold any 64 bits."""
    return seconds if seconds is not None and 0 <= seconds <= TIME_MAX else None


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _made_ns(folder: Path) -> int:
    """About when the dump in that folder was made, nanoseconds since 1970; 0 if the disk does not even say that."""
    for path in (folder / ORIGIN, folder):
        with suppress(OSError):
            return _modified_ns(path)
    return 0


def _modified_ns(path: Path) -> int:
    """When a file was last changed, nanoseconds since 1970; 0 if it is not there or claims an impossible time."""
    try:
        return min(max(path.lstat().st_mtime_ns, 0), INTEGER_MAX)
    except FileNotFoundError:
        return 0
