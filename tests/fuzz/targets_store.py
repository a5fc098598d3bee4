"""What lies in a collector's folder, as rot or another program may have left it, and the run tables it streams."""

from __future__ import annotations

import hashlib
import json
import struct
from functools import cache
from pathlib import Path
from typing import Final

from netdump.errors import DamagedError, RemoteError, StoreError, UnreachableError
from netdump.index.runstream import pack_stream, unpack_stream
from netdump.pki.faults import answered_error
from netdump.store.layout import segment_name
from netdump.store.manifest import Manifest
from netdump.store.origin import Origin
from netdump.store.runtables import RunTable, read_run_tables
from netdump.store.sealed import canonical, seal
from netdump.store.segment import SegmentReader
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import CLOCK, deliver
from netdump.wire import SEGMENT_HEADER_BYTES, SEGMENT_TRAILER_BYTES
from tests.fuzz.target import MIB, Target

_DUMP: Final = SampleDump(seed=7, image_bytes=24_000, chunk_bytes=8_192)
_ID: Final = _DUMP.origin.id
_START: Final = struct.Struct(">24xQ")  # in a segment's header
_END: Final = struct.Struct(">16xQ")  # in its trailer
_SIGNED_TRAILER_BYTES: Final = 56


@cache
def _files() -> dict[str, bytes]:
    """The files of a complete dump, by the end of their names."""
    files = MemoryFiles()
    assert deliver(Store(Path("dumps"), files, clock=lambda: CLOCK), _DUMP) is not None
    return {name.rpartition("/")[2]: bytes(files.content(name)) for name in files.all_names()}


def _segment(data: bytes) -> None:
    """A segment under the name that it claims. An odd first byte: with the digest that it should have."""
    body = bytearray(data[1:])
    trailer = len(body) - SEGMENT_TRAILER_BYTES
    if trailer < SEGMENT_HEADER_BYTES:
        return
    start, end = _START.unpack_from(body)[0], _END.unpack_from(body, trailer)[0]
    if data[0] & 1:
        (count, table) = struct.unpack_from(">I4xQ", body, trailer)
        signed = body[:SEGMENT_HEADER_BYTES] + body[table : table + 64 * min(count, 1 << 16)]
        digest = hashlib.sha256(signed + body[trailer : trailer + _SIGNED_TRAILER_BYTES]).digest()
        body[trailer + _SIGNED_TRAILER_BYTES : trailer + _SIGNED_TRAILER_BYTES + 32] = digest
    files = MemoryFiles()
    files.create("x").write(bytes(body))
    with SegmentReader(files.open("x"), segment_name(start, end), _DUMP.dump_id) as reader:
        tables = list(read_run_tables(reader))
        assert [table.offset for table in tables] == [stored.chunk.offset for stored in reader.chunks()]


def _documents(data: bytes) -> None:
    """Origin, manifest, receipt: as they lie there, and with the seal that a careful writer of nonsense would give."""
    for sealed in (data, _resealed(data)):
        for parse in (Origin.parse, Manifest.parse):
            try:
                document = parse(sealed, _ID)
            except DamagedError:
                continue
            assert parse(document.pack(), _ID) == document


def _resealed(data: bytes) -> bytes:
    try:
        members = json.loads(data, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return data
    if not isinstance(members, dict):
        return data
    members.pop("sha256", None)
    return seal(members)


def _folder(data: bytes) -> None:
    """A dump's folder, one file of which is replaced; the first byte says which. Then all that is read of a dump."""
    names = sorted(_files())
    if not data:
        return
    changed = names[data[0] % len(names)]
    files = MemoryFiles()
    files.make_folder(_ID)
    files.make_folder(f"{_ID}/segments")
    for name, content in _files().items():
        place = f"{_ID}/segments/{name}" if name.endswith(".seg") else f"{_ID}/{name}"
        files.create(place).write(data[1:] if name == changed else content)
    dump = Store(Path("dumps"), files).dump(_ID)
    report = dump.verify()
    assert report.ok == (not report.findings)
    if data[1:] != _files()[changed] and changed not in {"vmcore", "lock"} and report.ok:
        assert changed.endswith(".seg"), changed  # a bit may mean nothing there: that a known field is critical
        dump.reassemble()
        assert files.open(f"{_ID}/vmcore").read(0, len(_DUMP.image) + 1) == _DUMP.image
    for look in (lambda: dump.durable, lambda: dump.segments, dump.headline, dump.read_log, lambda: dump.receipt):
        try:
            look()
        except StoreError:
            continue


def _runstream(data: bytes) -> None:
    """A stream in pieces as long as the first byte says."""
    if not data:
        return
    step = data[0] or 256
    pieces = (data[at : at + step] for at in range(1, len(data), step))
    end = 0
    for table in unpack_stream(pieces, lambda body: answered_error("https://there", 500, body)):
        assert table.offset == end
        end += table.length


def _segments() -> list[bytes]:
    whole = [content for name, content in _files().items() if name.endswith(".seg")]
    return [first + content for content in whole for first in (b"\0", b"\1")]


def _sealed_files() -> list[bytes]:
    files = _files()
    manifest = json.loads(files["manifest.json"])
    nested = canonical({"segments": [{"name": "../../x", "start": 0, "end": 1 << 63}] * 3, **manifest})
    return [files["origin.json"], files["manifest.json"], files["receipt.json"], nested, b"[" * 3000, b"{}\n"]


def _folders() -> list[bytes]:
    return [bytes([number]) + _files()[name] for number, name in enumerate(sorted(_files()))]


def _streams() -> list[bytes]:
    tables = [RunTable(chunk.offset, chunk.length, bytes(chunk.table)) for chunk in _DUMP.chunks]
    good = b"".join(pack_stream(tables))
    trouble = struct.pack(">QII", 0, 0, 62) + b'{"error": {"code": "damaged", "message": "it is \\u001b damaged"}}'
    return [bytes([step]) + stream for step in (0, 1, 17) for stream in (good, trouble)]


_ERRORS: Final = (DamagedError,)

TARGETS = (
    Target("segment", _segment, _ERRORS, _segments, bytes_max=1 << 16, memory_max=16 * MIB, rounds=125),
    Target("documents", _documents, (), _sealed_files, bytes_max=1 << 14, rounds=200),
    Target("folder", _folder, (StoreError,), _folders, bytes_max=1 << 16, memory_max=24 * MIB, rounds=120),
    Target("runstream", _runstream, (RemoteError, UnreachableError, StoreError), _streams, bytes_max=1 << 14),
)
