"""The bytes of a segment: written as the law says, and read only if every rule of [S-20] and [S-21] holds."""

from __future__ import annotations

import hashlib
import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import PageState, Run
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.intake import verify_chunk
from netdump.store.layout import segment_name
from netdump.store.segment import SegmentReader, SegmentWriter
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump, received_chunk
from netdump.wire import FRAME_HEADER_BYTES, MESSAGE_PAYLOAD_MAX, Chunk, CodecId, MessageType, chain_start, unpack

SAMPLE = SampleDump(seed=8, image_bytes=60_000)
ID = SAMPLE.dump_id


def build(chunks: list[Chunk], first: int = 0, chain: bytes | None = None) -> tuple[str, bytes]:
    """(name, bytes) of a segment with these chunks."""
    files = MemoryFiles()
    chain = chain_start(ID, len(SAMPLE.image)) if chain is None else chain
    writer = SegmentWriter(files.create("x"), ID, chunks[0].offset, first, chain)
    for chunk in chunks:
        writer.append(chunk, len(verify_chunk(chunk)))
    link = writer.finish()
    assert link.info.file_bytes == len(files.content("x"))
    return link.info.name, bytes(files.content("x"))


def read(name: str, data: bytes, dump_id: bytes = ID) -> SegmentReader:
    files = MemoryFiles()
    files.create("x").write(data)
    return SegmentReader(files.open("x"), name, dump_id)


FRAME_MAX = FRAME_HEADER_BYTES + MESSAGE_PAYLOAD_MAX[MessageType.CHUNK]
NAME, DATA = build(SAMPLE.chunks[:5])
TABLE = len(DATA) - 96 - 5 * 64


def test_the_layout_is_that_of_the_law() -> None:
    """Decoded here with nothing but the tables of store.md 4."""
    chunks = SAMPLE.chunks[2:6]
    name, data = build(chunks, 2, b"c" * 32)
    end = chunks[-1].offset + chunks[-1].length
    assert name == f"{chunks[0].offset:016x}-{end:016x}.seg"
    assert data[:72] == b"NDSEG/1\n" + ID + struct.pack(">QQ", chunks[0].offset, 2) + b"c" * 32
    frames = b"".join(chunk.frame for chunk in chunks)
    assert data[72 : 72 + len(frames)] == frames
    table = data[72 + len(frames) : -96]
    position, chain = 72, b"c" * 32
    for number, chunk in enumerate(chunks):
        assert table[64 * number :][:64] == (
            struct.pack(">QII", position, len(chunk.frame), len(verify_chunk(chunk)))
            + struct.pack(">QII", chunk.offset, chunk.length, 0)
            + chunk.digest
        )
        position += len(chunk.frame)
        chain = hashlib.sha256(b"netdump/1 link\n" + chain + chunk.digest).digest()
    trailer = struct.pack(">IIQQ", 4, 0, 72 + len(frames), end) + chain
    sha256 = hashlib.sha256(data[:72] + table + trailer).digest()
    assert data[-96:] == trailer + sha256 + b"NDSEGEND"


def test_it_is_read_back() -> None:
    with read(NAME, DATA) as segment:
        assert [stored.chunk for stored in segment.chunks()] == SAMPLE.chunks[:5]
        assert [bytes(stored.raw) for stored in segment.chunks()] == [bytes(verify_chunk(c)) for c in SAMPLE.chunks[:5]]
        assert [segment.run_table(entry) for entry in segment.entries()] == [chunk.table for chunk in SAMPLE.chunks[:5]]
        assert (segment.info.name, segment.info.chunks, segment.info.file_bytes) == (NAME, 5, len(DATA))
        assert segment.info.sha256 == DATA[-40:-8]
        assert segment.link.chain_after == SAMPLE.chain_at(SAMPLE.chunks[:5])
    with pytest.raises(OSError, match="descriptor"):
        segment.read(0, 1)


def resigned(data: bytes) -> bytes:
    """With the digest of the trailer made right again."""
    table = int.from_bytes(data[-88:-80], "big")
    signed = data[:72] + data[table:-96] + data[-96:-40]
    return data[:-40] + hashlib.sha256(signed).digest() + data[-8:]


def put(data: bytes, position: int, new: bytes) -> bytes:
    """data with new at position, which counts from the end if it is negative."""
    position %= len(data)
    return data[:position] + new + data[position + len(new) :]


END = -96
ENTRY = TABLE + 2 * 64
LONGER = DATA[:TABLE] + b"x" * 64 + DATA[TABLE:-88] + struct.pack(">Q", TABLE + 64) + DATA[-80:]
UNSOUND = {
    "empty": (b"", None, "0 bytes"),
    "header only": (DATA[:72], None, "72 bytes"),
    "one byte short": (DATA[:-1], None, "end"),
    "magic": (put(DATA, 0, b"X"), 0, "magic at its start"),
    "other dump": (resigned(put(DATA, 8, b"other dump......")), 8, "another dump"),
    "end magic": (put(DATA, -8, b"X"), len(DATA) - 8, "magic at its end"),
    "no chunks": (put(DATA, END, bytes(4)), len(DATA) - 96, "0 chunks"),
    "too many chunks": (put(DATA, END, struct.pack(">I", (1 << 20) + 1)), len(DATA) - 96, "1048577 chunks"),
    "more chunks": (put(DATA, END, struct.pack(">I", 6)), len(DATA) - 88, "6 entries"),
    "more chunks than bytes": (put(DATA, END, struct.pack(">I", 1 << 20)), len(DATA) - 88, "1048576 entries"),
    "reserved": (resigned(put(DATA, END + 4, b"\0\0\0\1")), len(DATA) - 92, "reserved"),
    "table elsewhere": (put(DATA, END + 8, struct.pack(">Q", TABLE + 64)), len(DATA) - 88, "does not begin"),
    "table beyond": (put(DATA, END + 8, b"\xff" * 8), len(DATA) - 88, "does not begin"),
    "digest": (put(DATA, -9, bytes([DATA[-9] ^ 1])), len(DATA) - 40, "digest"),
    "header digest": (put(DATA, 40, bytes(32)), len(DATA) - 40, "digest"),
    "chain before": (resigned(put(DATA, 40, bytes(32))), TABLE, "do not lead"),
    "chain after": (resigned(put(DATA, END + 24, bytes(32))), TABLE, "do not lead"),
    "entry reserved": (resigned(put(DATA, ENTRY + 28, b"\0\0\0\1")), ENTRY, "entry 2"),
    "entry position": (resigned(put(DATA, ENTRY, struct.pack(">Q", 73))), ENTRY, "entry 2"),
    "entry offset": (resigned(put(DATA, ENTRY + 16, struct.pack(">Q", 1))), ENTRY, "entry 2"),
    "entry without length": (resigned(put(DATA, ENTRY + 24, bytes(4))), ENTRY, "entry 2 is of no chunk"),
    "entry too long": (resigned(put(DATA, ENTRY + 24, struct.pack(">I", (1 << 30) + 1))), ENTRY, "entry 2 is of no"),
    "entry of too much": (resigned(put(DATA, ENTRY + 12, struct.pack(">I", (1 << 20) + 1))), ENTRY, "entry 2 is of no"),
    "entry of a frame": (resigned(put(DATA, ENTRY + 8, struct.pack(">I", FRAME_MAX + 1))), ENTRY, "entry 2 is of no"),
    "entry without frame": (resigned(put(DATA, ENTRY + 8, bytes(4))), ENTRY + 64, "entry 3"),
    "longer frame": (resigned(put(DATA, TABLE + 4 * 64 + 8, b"\0\1\0\0")), TABLE, "do not lead"),
    "entry digest": (resigned(put(DATA, ENTRY + 32, bytes(32))), TABLE, "do not lead"),
    "junk between": (resigned(LONGER), TABLE + 64, "do not lead"),
    "end": (resigned(put(DATA, END + 16, struct.pack(">Q", 7))), None, "which its name does not say"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSOUND)
def test_what_is_not_sound_is_not_opened(case: str) -> None:
    data, position, text = UNSOUND[case]
    with pytest.raises(DamageFoundError, match=text) as error:
        read(NAME, data)
    finding = error.value.finding
    assert (finding.damage, finding.file) == (Damage.NOT_SOUND, NAME)
    assert position is None or finding.position == position


@pytest.mark.parametrize("name", [segment_name(1, 2), NAME + ".partial", NAME.upper(), "", NAME[:-4]])
def test_its_name_must_be_its_range(name: str) -> None:
    with pytest.raises(DamageFoundError, match="its name"):
        read(name, DATA)


def test_it_may_not_end_beyond_any_image() -> None:
    run = [Run(PageState.ZERO, 4096)]
    name, data = build([received_chunk((1 << 52) - 4096, run, b"")])
    read(name, data).close()
    frame = put(bytes(SAMPLE.chunks[0].frame), 0, b"")
    chunk = SAMPLE.chunks[0]._replace(offset=1 << 52, length=4096, frame=frame)
    writer_files = MemoryFiles()
    writer = SegmentWriter(writer_files.create("x"), ID, 1 << 52, 0, bytes(32))
    writer.append(chunk, 0)
    with pytest.raises(DamageFoundError, match="beyond any image"):
        read(writer.finish().info.name, bytes(writer_files.content("x")))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(0, len(DATA) - 1), st.integers(0, 255), st.booleans(), st.integers(0, 200))
def test_whatever_is_in_it_only_damage_comes_out(position: int, value: int, sign: bool, cut: int) -> None:
    data = put(DATA, position, bytes([value]))
    data = data[: len(data) - cut] if cut < 10 else data
    if sign and data[-8:] == b"NDSEGEND" and int.from_bytes(data[-88:-80], "big") < len(data):
        data = resigned(data)
    try:
        with read(NAME, data) as segment:
            found = [bytes(stored.raw) for stored in segment.chunks()]
    except DamageFoundError:
        return
    assert found == [bytes(verify_chunk(chunk)) for chunk in SAMPLE.chunks[:5]]


def broken(position: int, new: bytes, chunk: Chunk = SAMPLE.chunks[0]) -> DamageFoundError:
    """What reading a chunk says whose frame was changed after it was taken."""
    name, data = build([chunk])
    segment = read(name, put(data, 72 + position, new))
    with pytest.raises(DamageFoundError) as error:
        list(segment.chunks())
    assert error.value.finding.position == 72
    return error.value


def test_a_frame_is_checked_by_the_rules_of_the_wire() -> None:
    raw = bytes(range(256)) * 16
    chunk = received_chunk(0, [Run(PageState.DATA, len(raw))], raw, CodecId.ZSTD)
    digest = bytes(chunk.frame).index(chunk.digest)
    assert broken(0, b"\x80\x07", chunk).finding.damage is Damage.BAD_CHUNK
    assert broken(0, b"\x80\x63", chunk).finding.damage is Damage.BAD_CHUNK
    assert broken(2, b"\1", chunk).finding.damage is Damage.BAD_CHUNK
    assert broken(digest, bytes(32), chunk).finding.damage is Damage.BAD_DIGEST
    assert broken(len(chunk.frame) - 4, b"\0\0\0\0", chunk).finding.damage is Damage.BAD_CODEC
    stored = received_chunk(0, [Run(PageState.DATA, 100)], bytes(100), CodecId.STORED)
    assert broken(len(stored.frame) - 1, b"x", stored).finding.damage is Damage.BAD_DIGEST


def test_a_good_frame_of_another_chunk_is_found() -> None:
    """The frame is a chunk with a right digest; only the table says that it is not this one."""
    one = received_chunk(0, [Run(PageState.DATA, 8)], b"one data", CodecId.STORED)
    two = received_chunk(0, [Run(PageState.DATA, 8)], b"two data", CodecId.STORED)
    assert "table" in str(broken(0, bytes(two.frame), one))
    longer = received_chunk(8, [Run(PageState.DATA, 8)], b"one data", CodecId.STORED)
    assert broken(0, bytes(longer.frame), one).finding.damage is Damage.BAD_DIGEST


def test_the_table_must_say_what_the_frame_says() -> None:
    data = resigned(put(DATA, TABLE + 12, b"\0\0\0\7"))
    segment = read(NAME, data)
    with pytest.raises(DamageFoundError, match="raw bytes") as error:
        list(segment.chunks())
    assert error.value.finding.damage is Damage.BAD_CHUNK


def test_a_frame_longer_than_any_is_not_read() -> None:
    name, data = build([SAMPLE.chunks[0]._replace(frame=bytes(FRAME_MAX))])
    with pytest.raises(DamageFoundError, match="not one frame"):
        list(read(name, data).chunks())
    name, data = build([SAMPLE.chunks[0]._replace(frame=bytes(FRAME_MAX + 1))])
    with pytest.raises(DamageFoundError, match="entry 0 is of no chunk"):
        read(name, data)


def test_a_long_run_table_is_found_whole() -> None:
    runs = [Run(PageState(2 * (number % 2) + 1 if number % 2 == 0 else 4), 1) for number in range(4096)]
    chunk = received_chunk(0, runs, b"")
    name, data = build([chunk])
    segment = read(name, data)
    entry = next(segment.entries())
    assert len(chunk.table) == 4096 * 8
    assert segment.run_table(entry) == chunk.table


def test_a_run_table_behind_unknown_fields_is_found() -> None:
    """[W-17]: a frame is kept as it was received, with fields that only a later version knows."""
    chunk = SAMPLE.chunks[0]
    for unknown in (b"", b"x" * 5000):
        payload = struct.pack(">HI", 0, len(unknown)) + unknown + chunk.frame[8:] + struct.pack(">HI", 99, 3) + b"abc"
        frame = bytes(chunk.frame[:4]) + struct.pack(">I", len(payload)) + payload
        received = unpack(frame)
        assert isinstance(received, Chunk)
        name, data = build([received])
        segment = read(name, data)
        entry = next(segment.entries())
        assert segment.run_table(entry) == chunk.table
        assert bytes(segment.chunk(entry).raw) == bytes(verify_chunk(chunk))


def test_a_frame_without_run_table_is_damage() -> None:
    segment = read(*build([replace_frame(bytes(500))]))
    with pytest.raises(DamageFoundError, match="no run table"):
        segment.run_table(next(segment.entries()))
    segment = read(*build([replace_frame(bytes(8) + struct.pack(">HI", 3, 1 << 31))]))
    with pytest.raises(DamageFoundError, match="no run table"):
        segment.run_table(next(segment.entries()))


def replace_frame(frame: bytes) -> Chunk:
    return SAMPLE.chunks[0]._replace(frame=frame)


def test_a_skeleton_has_entries_and_run_tables_and_no_data() -> None:
    files = MemoryFiles()
    name, content = build(SAMPLE.chunks)
    whole = read(name, content)
    file = files.create("skeleton")
    whole.write_skeleton(file)
    assert file.size() == len(content)
    skeleton = SegmentReader(file, name, ID)
    assert skeleton.link == whole.link
    assert [*skeleton.entries()] == [*whole.entries()]
    chunks = [*whole.chunks()]
    assert [skeleton.run_table(entry) for entry in skeleton.entries()] == [stored.chunk.table for stored in chunks]
    data = [stored.chunk.data for stored in chunks if stored.chunk.data]
    assert data
    assert not any(bytes(each) in bytes(files.content("skeleton")) for each in data)
    with pytest.raises(DamageFoundError):
        deque(skeleton.chunks(), maxlen=0)


def test_a_file_that_is_not_sound_is_closed() -> None:
    files = MemoryFiles()
    files.create("x").write(b"junk")
    file = files.open("x")
    with pytest.raises(DamageFoundError):
        SegmentReader(file, NAME, ID)
    with pytest.raises(OSError, match="descriptor"):
        file.size()


def test_an_info_is_plain_data() -> None:
    info = read(NAME, DATA).info
    assert info._replace(end=info.end) == info
