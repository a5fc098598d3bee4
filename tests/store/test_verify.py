"""The check finds every damage that matters, names its class and its file, and never raises."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from netdump.pages import PageState, Run
from netdump.store.findings import Damage, Finding, Report
from netdump.store.store import Store
from netdump.store.verify import FINDINGS_MAX
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import CLOCK, append_all, deliver
from netdump.wire import SEGMENT_ENTRY_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_TRAILER_BYTES, Chunk, unpack_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE = SampleDump(seed=3, image_bytes=30_000, chunk_bytes=9_000)
ID = SAMPLE.origin.id
FRAME_DAMAGE = {Damage.BAD_CHUNK, Damage.BAD_CODEC, Damage.BAD_DIGEST}


def stored(chunks: int = 1000) -> MemoryFiles:
    memory = MemoryFiles()
    store = Store(Path("dumps"), memory, clock=lambda: CLOCK)
    if deliver(store, SAMPLE, chunks) is not None:
        store.dump(ID).reassemble()
    return memory


def check(memory: MemoryFiles) -> Report:
    return Store(Path("dumps"), memory).dump(ID).verify()


def damages(memory: MemoryFiles) -> set[Damage]:
    return {finding.damage for finding in all_of(check(memory))}


def all_of(report: Report) -> list[Finding]:
    return [*report.findings, *([report.view] if report.view is not None else [])]


def names(memory: MemoryFiles) -> list[str]:
    return [name.removeprefix(f"{ID}/") for name in memory.all_names() if not name.endswith("lock")]


def expected(name: str, position: int, size: int) -> set[Damage]:
    """The classes that damage to a byte of a file may have."""
    if name.endswith(".json"):
        return {Damage.NOT_SEALED}
    if name == "headline":
        return {Damage.BAD_DIGEST}
    if name == "vmcore":
        return {Damage.VMCORE}
    return FRAME_DAMAGE if SEGMENT_HEADER_BYTES <= position < size else {Damage.NOT_SOUND}


def frames_end(content: bytearray) -> int:
    count = int.from_bytes(content[-SEGMENT_TRAILER_BYTES:][:4], "big")
    return len(content) - SEGMENT_TRAILER_BYTES - count * SEGMENT_ENTRY_BYTES


def test_a_sound_dump_has_no_findings() -> None:
    report = check(stored())
    whole = Report(ID, True, report.segments, len(SAMPLE.chunks), len(SAMPLE.image), (), origin=SAMPLE.origin)
    assert report == whole
    assert report.ok
    assert report.as_json()["ok"] is True


def test_every_flipped_bit_is_found_with_its_class() -> None:
    memory, random = stored(), Random(1)
    seen: Counter[Damage] = Counter()
    harmless = 0
    for name in names(memory):
        content = memory.content(f"{ID}/{name}")
        end = frames_end(content) if name.endswith(".seg") else 0
        # One in three bytes that are no payload, of payload one in 32; each byte is for tests/crashes/rot.py.
        for position in range(len(content)):
            payload = name == "vmcore" or SEGMENT_HEADER_BYTES + 200 < position < end
            if position % (32 if payload else 3):
                continue
            before = content[position]
            content[position] ^= 1 << random.randrange(8)
            report = check(memory)
            content[position] = before
            found = {finding.damage for finding in all_of(report)}
            assert report.ok == (found <= {Damage.VMCORE})
            if not found and SEGMENT_HEADER_BYTES <= position < end:
                harmless += 1  # shown to be harmless below
                continue
            assert found, (name, position)
            assert found <= expected(name, position, end), (name, position, found)
            assert {finding.file for finding in all_of(report)} == {name.rpartition("/")[2]}, (name, position)
            seen.update(found)
    assert set(seen) == FRAME_DAMAGE | {Damage.NOT_SEALED, Damage.BAD_DIGEST, Damage.VMCORE, Damage.NOT_SOUND}
    assert harmless < 10
    assert check(memory).ok


def test_bits_that_are_not_found_change_nothing(tmp_path: Path) -> None:
    memory = stored()
    segment = next(name for name in names(memory) if name.endswith(".seg"))
    content = memory.content(f"{ID}/{segment}")
    unfound = []
    for position in range(SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + 200):
        for bit in range(8):
            content[position] ^= 1 << bit
            if check(memory).ok:
                unfound.append((position - SEGMENT_HEADER_BYTES, bit))
                image = Store(Path("dumps"), memory).dump(ID).reassemble(tmp_path / "image").path.read_bytes()
                assert image == SAMPLE.image
            content[position] ^= 1 << bit
    # The critical bit of the message and those of the fields offset, length and runs, [W-11].
    assert {(0, 7), (8, 7), (22, 7), (32, 7)} <= set(unfound)
    assert len(unfound) < 10, unfound


@pytest.mark.parametrize("change", ["cut", "longer", "empty"])
def test_another_length_is_found(change: str) -> None:
    memory = stored()
    for name in names(memory):
        content = memory.content(f"{ID}/{name}")
        before = bytes(content)
        content[:] = {"cut": before[:-1], "longer": before + b"\0", "empty": b""}[change]
        found = damages(memory)
        content[:] = before
        assert found & (expected(name, 0, 0) | {Damage.BAD_HEADLINE}), (name, found)
    assert check(memory).ok


def test_a_missing_file_is_found() -> None:
    for name in names(stored()):
        memory = stored()
        memory.unlink(f"{ID}/{name}")
        report = check(memory)
        if name in {"vmcore", "receipt.json"}:
            assert report.ok, "they may be absent"
        elif name == "manifest.json":
            assert not report.complete
            assert {finding.damage for finding in report.findings} == {Damage.CONTENT}, "there is a receipt"
        else:
            assert {finding.damage for finding in report.findings} == {Damage.MISSING}, name
            assert {finding.file for finding in report.findings} == {name.rpartition("/")[2]}
            assert report.chunks == len(SAMPLE.chunks) or name.endswith(".seg"), (
                "everything else is checked all the same"
            )


def test_another_sound_segment_of_the_same_range_is_found() -> None:
    memory, other = stored(), MemoryFiles()
    first = next(name for name in names(memory) if name.endswith(".seg"))
    end = int(first[-20:-4], 16)
    with Store(Path("dumps"), other).open_writer(SAMPLE.origin) as writer:
        append_all(writer, [SAMPLE.chunk(0, 100), SAMPLE.chunk(100, end - 100)])
        writer.publish()
    memory.content(f"{ID}/{first}")[:] = other.content(f"{ID}/{first}")
    assert damages(memory) == {Damage.OTHER_SEGMENT}


def test_a_manifest_of_another_cut_is_found() -> None:
    memory, other = stored(), MemoryFiles()
    store = Store(Path("dumps"), other, clock=lambda: CLOCK)
    chunks = [
        SAMPLE.chunk(start, min(7_000, len(SAMPLE.image) - start)) for start in range(0, len(SAMPLE.image), 7_000)
    ]
    with store.open_writer(SAMPLE.origin) as writer:
        append_all(writer, chunks)
        writer.finish(SAMPLE.root_of(chunks))
    memory.content(f"{ID}/manifest.json")[:] = other.content(f"{ID}/manifest.json")
    report = check(memory)
    assert {finding.damage for finding in report.findings} == {Damage.MISSING, Damage.BAD_DIGEST, Damage.CONTENT}
    assert {finding.file for finding in report.findings} >= {"headline", "receipt.json"}


def test_the_report_of_a_dump_that_is_not_complete() -> None:
    memory = stored(5)
    assert check(memory) == Report(ID, False, 2, 5, SAMPLE.chunks[5].offset, (), origin=SAMPLE.origin)
    segments = [name for name in names(memory) if name.endswith(".seg")]
    memory.content(f"{ID}/{segments[1]}")[-1] ^= 1
    report = check(memory)
    assert [(finding.damage, finding.file) for finding in report.findings] == [(Damage.NOT_SOUND, segments[1][-37:])]
    assert (report.segments, report.chunks) == (1, 3)
    memory.content(f"{ID}/headline")[0] ^= 0x55
    assert Damage.BAD_HEADLINE in damages(memory)


def test_a_position_is_where_to_look() -> None:
    memory = stored()
    segment = next(name for name in names(memory) if name.endswith(".seg"))
    content = memory.content(f"{ID}/{segment}")
    second = SEGMENT_HEADER_BYTES + len(SAMPLE.chunks[0].frame)
    content[second + len(SAMPLE.chunks[1].frame) - 1] ^= 1
    report = check(memory)
    assert [finding.position for finding in report.findings] == [second]
    assert str(SAMPLE.chunks[1].offset) in report.findings[0].text
    assert report.chunks == len(SAMPLE.chunks) - 1, "the others are verified all the same"
    image = memory.content(f"{ID}/vmcore")
    image[12_345] ^= 1
    view = check(memory).view
    assert view is not None
    assert view.position is not None
    assert view.position <= 12_345


@pytest.mark.parametrize("chunks", [5, 1000])
def test_a_disk_that_does_not_read_is_a_finding(chunks: int) -> None:
    memory = stored(chunks)
    count = FaultyFiles(memory)
    assert Store(Path("dumps"), count).dump(ID).verify().ok
    for number in range(1, len(count.operations)):
        files = FaultyFiles(memory)
        files.fail(number, errno.EIO)
        report = Store(Path("dumps"), files).dump(ID).verify()
        if files.operations[number].kind != "close":
            assert Damage.UNREADABLE in {finding.damage for finding in all_of(report)}, files.operations[number]


def test_a_file_in_the_place_of_the_segments_is_a_finding(tmp_path: Path) -> None:
    store = Store(tmp_path / "dumps", clock=lambda: CLOCK)
    deliver(store, SAMPLE, 5)
    segments = tmp_path / "dumps" / ID / "segments"
    segments.rename(tmp_path / "elsewhere")
    segments.touch()
    (finding,) = store.dump(ID).verify().findings
    assert (finding.damage, finding.file) == (Damage.UNREADABLE, "segments")


def test_a_report_is_bounded() -> None:
    sample = SampleDump(seed=4, image_bytes=FINDINGS_MAX + 50, chunk_bytes=1)
    memory = MemoryFiles()
    store = Store(Path("dumps"), memory)
    with store.open_writer(sample.origin) as writer:
        append_all(writer, sample.chunks)
        writer.publish()
    content = memory.content(next(name for name in memory.all_names() if name.endswith(".seg")))
    position = SEGMENT_HEADER_BYTES
    for chunk in sample.chunks:
        content[position + 2] ^= 1
        position += len(chunk.frame)
    report = store.dump(sample.origin.id).verify()
    assert len(report.findings) == FINDINGS_MAX
    assert report.more == len(sample.chunks) - FINDINGS_MAX
    assert report.chunks == 0


def test_progress_is_told_and_may_stop_it() -> None:
    memory = stored()
    reached: list[int] = []
    Store(Path("dumps"), memory).dump(ID).verify(reached.append)
    assert reached == [chunk.offset + chunk.length for chunk in SAMPLE.chunks]

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(Path("dumps"), memory).dump(ID).verify(stop)


@pytest.mark.parametrize("block_bytes", [512, 1 << 20])
def test_holes_of_vmcore_are_not_read_but_what_was_written_into_one_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("netdump.store.verify._BLOCK_BYTES", block_bytes)
    sample = SampleDump(seed=3, image_bytes=300_000, chunk_bytes=90_000)
    store = Store(tmp_path, clock=lambda: CLOCK)
    assert deliver(store, sample, 1000) is not None
    dump = store.dump(sample.origin.id)
    dump.reassemble()
    assert dump.verify().view is None
    spots = [spot for chunk in sample.chunks for spot in placed(chunk)]
    zeros = [(place, run.length) for run, place in spots if run.state not in {PageState.DATA, PageState.ALIAS}]
    assert len(zeros) > 5
    assert dump.vmcore_path is not None
    with dump.vmcore_path.open("r+b", buffering=0) as file:
        for place, length in zeros:
            file.seek(place + length - 1)
            file.write(b"x")
            finding = dump.verify().view
            assert finding is not None
            assert (finding.file, finding.damage) == ("vmcore", Damage.VMCORE)
            assert finding.position is not None
            assert max(place, place + length - block_bytes) <= finding.position < place + length
            file.seek(place + length - 1)
            file.write(b"\0")


def placed(chunk: Chunk) -> Iterator[tuple[Run, int]]:
    """The runs of a chunk and where they stand in the image."""
    place = chunk.offset
    for run in unpack_runs(chunk.table, chunk.offset, chunk.length):
        yield run, place
        place += run.length


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_find_the_same(threads: int) -> None:
    """Each finding, in order, whatever was looked at ahead of it."""
    memory, random = stored(), Random(9)
    for name in [name for name in names(memory) if name.endswith(".seg")]:
        content = memory.content(f"{ID}/{name}")
        content[random.randrange(SEGMENT_HEADER_BYTES + 200, frames_end(content))] ^= 4
    dump, offsets = Store(Path("dumps"), memory).dump(ID), list[int]()
    alone = dump.verify()
    assert alone.findings
    assert dump.verify(offsets.append, threads=threads) == alone
    assert offsets == sorted(offsets)


def test_a_check_that_is_stopped_leaves_nothing_running() -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(_offset: int) -> None:
        raise Stop

    before = threading.active_count()
    with pytest.raises(Stop):
        Store(Path("dumps"), stored()).dump(ID).verify(stop, threads=3)
    assert threading.active_count() == before
