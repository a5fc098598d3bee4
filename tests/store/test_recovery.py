"""Which segments count: the longest durable run, or those of the manifest ([S-23], [S-31])."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.store.findings import Damage, DamageFoundError
from netdump.store.recovery import Durable, follow_manifest, longest_run, open_segment, recover
from netdump.store.segment import Link, SegmentInfo
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import append_all, deliver
from netdump.wire import chain_start

SAMPLE = SampleDump()
ID = SAMPLE.origin.id
SIZE = len(SAMPLE.image)
START = (0, 0, b"0")


def link(start: int, end: int, number: tuple[int, int] = (0, 0), chain: tuple[bytes, bytes] = (b"0", b"0")) -> Link:
    """number: (first chunk, chunks); chain: (before, after)."""
    return Link(SegmentInfo(start, end, number[1], 1, b""), number[0], *chain)


def ends(links: list[Link]) -> list[int]:
    return [found.info.end for found in longest_run(links, START, 100)]


def test_a_run_is_followed_as_far_as_it_goes() -> None:
    assert ends([]) == []
    assert ends([link(0, 10), link(10, 20), link(20, 30)]) == [10, 20, 30]
    assert ends([link(20, 30), link(10, 20), link(0, 10)]) == [10, 20, 30]
    assert ends([link(0, 10), link(20, 30)]) == [10]
    assert ends([link(10, 20)]) == []


def test_offset_number_and_chain_must_all_continue() -> None:
    first = link(0, 10, (0, 3), (b"0", b"A"))
    assert ends([first, link(10, 20, (3, 1), (b"A", b"0"))]) == [10, 20]
    assert ends([first, link(10, 20, (2, 1), (b"A", b"0"))]) == [10]
    assert ends([first, link(10, 20, (3, 1), (b"B", b"0"))]) == [10]
    assert ends([first, link(11, 20, (3, 1), (b"A", b"0"))]) == [10]
    assert ends([link(0, 10, (1, 3))]) == []
    assert ends([link(0, 10, (0, 3), (b"X", b"0"))]) == []


def test_the_longer_one_counts() -> None:
    assert ends([link(0, 10), link(0, 20), link(0, 15)]) == [20]
    assert ends([link(0, 10), link(0, 20), link(10, 20)]) == [20]
    assert ends([link(0, 10), link(0, 20), link(10, 30)]) == [10, 30], "what reaches further counts"
    assert ends([link(0, 10), link(10, 20), link(0, 20), link(20, 30)]) == [20, 30]


def test_a_segment_without_length_counts_as_any_other() -> None:
    """No client can make one, but a table may say so, and every reader must recover the same ([S-23])."""
    assert ends([link(0, 0, (0, 1)), link(0, 5, (0, 1)), link(0, 10, (1, 1))]) == [0, 10]


def test_nothing_beyond_the_image_counts() -> None:
    assert ends([link(0, 10), link(10, 101)]) == [10]


LINKS = st.lists(
    st.builds(
        lambda start, length, first, before, after: link(start, start + length, (first, 1), (before, after)),
        st.integers(0, 6),
        st.integers(0, 4),
        st.integers(0, 3),
        st.sampled_from([b"0", b"1"]),
        st.sampled_from([b"0", b"1"]),
    ),
    max_size=12,
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(LINKS, st.randoms())
def test_against_trying_everything(links: list[Link], random: object) -> None:
    def reach(place: tuple[int, int, bytes], offset: int) -> int:
        following = [found for found in links if (found.info.start, found.first, found.chain_before) == place]
        return max(
            (reach((f.info.end, f.first + f.info.chunks, f.chain_after), f.info.end) for f in following), default=offset
        )

    run = longest_run(links, START, 100)
    assert (run[-1].info.end if run else 0) == reach(START, 0)
    place = START
    for found in run:
        assert (found.info.start, found.first, found.chain_before) == place
        place = (found.info.end, found.first + found.info.chunks, found.chain_after)
    random.shuffle(links)  # type: ignore[attr-defined]
    assert ends(links) == [found.info.end for found in run]


def stored(chunks: int) -> MemoryFiles:
    memory = MemoryFiles()
    deliver(Store(Path("dumps"), memory), SAMPLE, chunks)
    return memory


def test_nothing_there() -> None:
    for memory in (MemoryFiles(), stored(0)):
        recovery = recover(memory, ID, SIZE)
        assert recovery.durable == Durable(0, chain_start(SAMPLE.dump_id, SIZE), 0)
        assert not recovery.links
        assert not recovery.findings


def test_an_unsound_segment_ends_the_run_and_is_reported() -> None:
    memory = stored(9)
    second = sorted(memory.names(f"{ID}/segments"))[1]
    memory.content(f"{ID}/segments/{second}")[-1] ^= 1
    recovery = recover(memory, ID, SIZE)
    assert recovery.durable.chunks == 3
    assert [(found.damage, found.file) for found in recovery.findings] == [(Damage.NOT_SOUND, second)]


def test_a_segment_that_vanishes_meanwhile_is_no_damage() -> None:
    class Vanishing(MemoryFiles):
        def names(self, folder: str) -> list[str]:
            return [*super().names(folder), f"{5:016x}-{6:016x}.seg"]

    memory = Vanishing()
    memory.make_folder(ID)
    memory.make_folder(f"{ID}/segments")
    assert recover(memory, ID, SIZE).findings == ()


def test_a_disk_that_does_not_read_is_no_damage() -> None:
    memory = stored(9)
    count = FaultyFiles(memory)
    recover(count, ID, SIZE)
    reading = [number for number, each in enumerate(count.operations) if each.kind in {"names", "open", "read", "size"}]
    assert len(reading) > 10
    for number in reading:
        files = FaultyFiles(memory)
        files.fail(number, errno.EIO)
        with pytest.raises(OSError, match="error"):
            recover(files, ID, SIZE)
        files.fail(number, errno.EIO)
        recovery = recover(files, ID, SIZE, tolerant=True)
        assert [found.damage for found in recovery.findings] == [Damage.UNREADABLE]


def test_the_manifest_names_its_segments() -> None:
    memory = MemoryFiles()
    manifest = deliver(Store(Path("dumps"), memory), SAMPLE)
    assert manifest is not None
    recovery = follow_manifest(memory, manifest)
    assert recovery.durable == Durable(SIZE, SAMPLE.chain_at(SAMPLE.chunks), len(SAMPLE.chunks))
    assert tuple(found.info for found in recovery.links) == manifest.segments
    names = [info.name for info in manifest.segments]
    memory.unlink(f"{ID}/segments/{names[1]}")
    memory.content(f"{ID}/segments/{names[2]}")[0] ^= 1
    recovery = follow_manifest(memory, manifest)
    assert [(found.damage, found.file) for found in recovery.findings] == [
        (Damage.MISSING, names[1]),
        (Damage.NOT_SOUND, names[2]),
    ]
    assert recovery.durable.offset == 0


def test_another_root_is_found() -> None:
    memory = MemoryFiles()
    manifest = deliver(Store(Path("dumps"), memory), SAMPLE)
    assert manifest is not None
    recovery = follow_manifest(memory, replace(manifest, root=bytes(32)))
    assert [(found.damage, found.file) for found in recovery.findings] == [(Damage.BAD_ROOT, "manifest.json")]


def test_segments_that_do_not_continue_each_other_are_found() -> None:
    memory, other = MemoryFiles(), MemoryFiles()
    manifest = deliver(Store(Path("dumps"), memory), SAMPLE)
    assert manifest is not None
    # The same ranges in other chunks: sound, but of another chain.
    with Store(Path("dumps"), other).open_writer(SAMPLE.origin) as writer:
        end = manifest.segments[0].end
        append_all(writer, [SAMPLE.chunk(0, 100), SAMPLE.chunk(100, end - 100)])
        writer.publish()
    name = manifest.segments[0].name
    memory.content(f"{ID}/segments/{name}")[:] = other.content(f"{ID}/segments/{name}")
    with open_segment(memory, ID, name) as segment:
        swapped = replace(manifest, segments=(segment.info, *manifest.segments[1:]))
    recovery = follow_manifest(memory, swapped)
    assert recovery.findings[0].damage is Damage.BAD_ROOT
    assert recovery.findings[0].file == manifest.segments[1].name


def test_a_segment_that_is_not_there() -> None:
    with pytest.raises(DamageFoundError) as error:
        open_segment(stored(0), ID, f"{0:016x}-{1:016x}.seg")
    assert error.value.finding.damage is Damage.MISSING
