"""What comes over an ingest connection: frames in any state of it, messages, run tables, documents, zstd frames."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Final

from netdump import wire
from netdump.codec import Compressor, decompress
from netdump.errors import CodecError, RemoteProtocolError
from netdump.index.gather import _with_headline
from netdump.index.record import DumpRecord, State, dump_json, parse_record
from netdump.pages import ExcludeClass, PageState, Run
from netdump.server.tls import RECORDS_AT_ONCE, Records
from netdump.store.intake import verify_chunk, verify_headline
from netdump.testing.sample_dump import SampleDump
from tests.fuzz.target import MIB, Target
from tests.protocol import vector_file

_DUMP: Final = SampleDump(seed=7, image_bytes=24_000, chunk_bytes=8_192)
_HELLO: Final = wire.Hello(_DUMP.dump_id, 24_000, 4096, 0)
_RESUME: Final = wire.Resume(0, _DUMP.chain_at([]), 0, headline=False, credit=4 * MIB, keepalive=5, idle=30)
_RECORD: Final = DumpRecord(_DUMP.origin.id, "web1", State.ARRIVING, 24_000, 4096, 0, 0, 0)
_SIZE: Final = struct.Struct(">I")
_RANGE: Final = struct.Struct(">QI")
_RECORD_HEAD: Final = 5
_FEED_BYTES: Final = (1, 7, 64, 65536)


def _connection(data: bytes) -> None:
    """First byte: role, state reached before, size of the pieces that arrive. The rest arrives."""
    if not data:
        return
    role = wire.Role.COLLECTOR if data[0] & 1 else wire.Role.CLIENT
    core = wire.Connection(role, 0.0)
    begun = data[0] >> 1 & 1
    if role is wire.Role.CLIENT:
        core.send(_HELLO, 0.0)
        if begun:
            core.receive_data(wire.pack(_RESUME), 0.0)
            core.next_event()
            core.send(_headline(), 0.0)
            core.send(_DUMP.chunks[0], 0.0)
    elif begun:
        core.receive_data(wire.pack(_HELLO), 0.0)
        core.next_event()
        core.send(_RESUME, 0.0)
    step = _FEED_BYTES[data[0] >> 2 & 3]
    for number, start in enumerate(range(1, len(data), step)):
        core.receive_data(data[start : start + step], float(number) / 1000)
        while core.next_event() is not None:
            assert core.acked_offset <= core.sent_offset <= _HELLO.image_bytes or core.resume != _RESUME
            assert core.unacked_cost <= core.credit or role is wire.Role.CLIENT


def _records(data: bytes) -> None:
    """First byte: size of the pieces that arrive. The rest are TLS records, of which only the lengths mean anything."""
    if not data:
        return
    ends, place = set(), 1
    while place + _RECORD_HEAD <= len(data):
        place += _RECORD_HEAD + int.from_bytes(data[place + 3 : place + 5], "big")
        ends.add(place)
    records, place, step = Records(), 1, _FEED_BYTES[data[0] % len(_FEED_BYTES)]
    for start in range(1, len(data), step):
        piece = memoryview(data)[start : start + step]
        while piece:
            count, ended = records.take(piece)
            assert ended == sum(end in ends for end in range(place + 1, place + count + 1)) <= RECORDS_AT_ONCE
            assert count == len(piece) or ended == RECORDS_AT_ONCE
            place, piece = place + count, piece[count:]


def _message(data: bytes) -> None:
    """A whole frame, with all that a collector checks of it in threads."""
    message = wire.unpack(data)
    match message:
        case wire.Chunk():
            assert len(verify_chunk(message)) <= wire.CHUNK_DATA_MAX
        case wire.Headline():
            assert len(verify_headline(message)) <= wire.HEADLINE_RAW_MAX
        case _:
            pass
    again = wire.unpack(wire.pack(message))
    if isinstance(message, wire.Chunk):  # keeps its frame, in which an optional field may have been marked critical
        assert isinstance(again, wire.Chunk)
        again, message = again._replace(frame=b""), message._replace(frame=b"")
    assert again == message


def _runs(data: bytes) -> None:
    if len(data) < _RANGE.size:
        return
    offset, length = _RANGE.unpack_from(data)
    table = data[_RANGE.size :]
    runs = wire.unpack_runs(table, offset, length)
    assert wire.pack_runs(runs) == table
    assert sum(run.length for run in runs) == length
    assert wire.check_runs(table, offset, length) == wire.raw_bytes(runs) <= wire.CHUNK_DATA_MAX


def _document(data: bytes) -> None:
    """A headline, and the record that a collector makes of it, which is shown to readers in lists of all dumps."""
    document = wire.unpack_document(data)
    assert wire.unpack_document(wire.pack_document(document)) == document
    record = _with_headline(_RECORD, document)
    assert parse_record(json.loads(json.dumps(dump_json(record)))) == record


def _zstd(data: bytes) -> None:
    """First four bytes: the size that is expected, within what a chunk may have."""
    if len(data) >= _SIZE.size:
        raw_bytes = _SIZE.unpack_from(data)[0] % (wire.CHUNK_DATA_MAX + 1)
        assert len(decompress(data[_SIZE.size :], raw_bytes)) == raw_bytes


def _headline() -> wire.Headline:
    raw = _DUMP.headline
    return wire.Headline(wire.CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw)


def _frames() -> list[bytes]:
    """Every frame of the law's vectors that is short, good or bad, and one of each kind of ours."""
    ours: list[wire.Message] = [_HELLO, _RESUME, _headline(), *_DUMP.chunks[:3]]
    vectors = [each.joined_bytes() for each in vector_file.load() if each.kind == "frame"]
    return [wire.pack(message) for message in ours] + [frame for frame in vectors if 0 < len(frame) <= 4096]


def _streams() -> list[bytes]:
    """Good conversations of either side, in all ways of arriving."""
    sent: list[wire.Message] = [wire.Keepalive(), _headline(), *_DUMP.chunks]
    sent.append(wire.Finish(24_000, len(_DUMP.chunks), _DUMP.root))
    answers: list[wire.Message] = [_RESUME, wire.Defer(15)]
    answers += [wire.Decline(wire.DeclineCode.QUOTA), wire.Error(wire.ErrorCode.FENCED)]
    heard: list[wire.Message] = [wire.Keepalive(), wire.Ack(_DUMP.chunks[0].length), wire.Receipt(_DUMP.root, b"{}")]
    streams = [(1, _HELLO), *((0, answer) for answer in answers)]
    found = [bytes([first | pieces << 2]) + wire.pack(message) for pieces in range(4) for first, message in streams]
    for first, messages in ((3, sent), (2, heard)):
        whole = b"".join(map(wire.pack, messages))
        found += [bytes([first | pieces << 2]) + whole for pieces in range(1, 4)]
    return found


def _run_tables() -> list[bytes]:
    runs = [Run(PageState.ZERO, 4096), Run(PageState.DATA, 100), Run(PageState.ALIAS, 4096, source=0)]
    runs += [Run(PageState.EXCLUDED, 8192, ExcludeClass.FREE), Run(PageState.LOST, 4096)]
    table = wire.pack_runs(runs)
    return [_RANGE.pack(8192, sum(run.length for run in runs)) + table] + [
        _RANGE.pack(chunk.offset, chunk.length) + bytes(chunk.table) for chunk in _DUMP.chunks
    ]


def _zstd_frames() -> list[bytes]:
    small = [b"", b"a" * 100, bytes(4096), _DUMP.image[:5000]]
    packed = [_SIZE.pack(len(raw)) + Compressor(level).compress(raw) for raw in small for level in (-5, 1, 9)]
    bomb = _SIZE.pack(MIB) + Compressor(19).compress(bytes(MIB))
    # Headers that claim 64 GiB in a single segment, a window of 2 GiB, a dictionary, no size.
    claims = ["e0" + (64 << 30).to_bytes(8, "little").hex(), "40a8", "6301000000" + "00" * 4, "0038"]
    magic = bytes.fromhex("28b52ffd")
    forged = [_SIZE.pack(0xFFFFF) + magic + bytes.fromhex(claim) + b"\x01\0\0" for claim in claims]
    skippable = _SIZE.pack(4) + bytes.fromhex("502a4d1804000000") + b"skip"
    return [*packed, bomb, *forged, skippable, packed[3] + packed[3][4:]]


def _tls_records() -> list[bytes]:
    heads = [bytes.fromhex("170303") + length.to_bytes(2, "big") for length in (0, 1, 19, 22, 300)]
    whole = b"".join(head + bytes(int.from_bytes(head[3:], "big")) for head in heads)
    return [bytes([step]) + records for step in range(4) for records in (whole, heads[0] * 200, whole + heads[4])]


TARGETS = (
    Target("records", _records, (), _tls_records, bytes_max=1 << 12),
    Target("connection", _connection, (RemoteProtocolError,), _streams, bytes_max=1 << 16, rounds=200),
    Target("message", _message, (RemoteProtocolError,), _frames, bytes_max=1 << 16, memory_max=12 * MIB),
    Target("runs", _runs, (RemoteProtocolError,), _run_tables, bytes_max=1 << 14),
    Target("document", _document, (RemoteProtocolError,), lambda: [_DUMP.headline, b""], bytes_max=1 << 14),
    Target("zstd", _zstd, (CodecError,), _zstd_frames, bytes_max=1 << 14),
)
