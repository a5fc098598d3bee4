from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import ExcludeClass
from netdump.testing.struct_page_writer import ERAS, Frames
from netdump.vmcore.elf import ElfHeaders
from netdump.vmcore.pageclasses import Classifier, Tally
from netdump.vmcore.pagerules import read_rules
from netdump.vmcore.structpage import Verdict, Wanted
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from netdump.vmcore.zonebyte import ZoneByte
from tests.vmcore.scan import scan

if TYPE_CHECKING:
    from netdump.testing.elf_writer import ByteOrder
    from netdump.vmcore.structpage import PageRules

PFN = 0x8000
LEVELS = (1, 2, 4, 6, 8, 16, 24, 31)


def frames_of(era: str, word: int = 8, byteorder: ByteOrder = "little") -> Frames:
    return Frames(ERAS[era], word, byteorder, (1 << 8 * word) - (1 << 28))


def zone_byte(rules: PageRules) -> ZoneByte:
    """One that knows the only zone of made-up machines."""
    byte = ZoneByte(rules, lambda _pfn, _data, _at: None)
    byte.trust([0x0400_0000])
    return byte


def classifier(frames: Frames, level: int, confirmed: bool = True) -> Classifier:
    lines: dict[str, str] = {}
    frames.describe(lines)
    info = Vmcoreinfo.parse("".join(f"{key}={value}\n" for key, value in lines.items()).encode())
    headers = ElfHeaders(32 * frames.word // 4, frames.byteorder, 62 if frames.word == 8 else 3, 0, 0, b"", b"", ())
    rules, refusals = read_rules(info, headers)
    wanted = refusals.apply(Wanted.of_level(level))

    def confirm(pfn: int, verdict: Verdict) -> bool:
        return confirmed

    return Classifier(rules, zone_byte(rules), wanted, 4096, confirm)


def array(frames: Frames, pages: int, first: int = PFN) -> bytearray:
    return bytearray(b"".join(frames.page(pfn) for pfn in range(first, first + pages)))


def names(tally: Tally) -> list[str]:
    return [ExcludeClass(value).name.lower() for value in tally.classes]


def fill(frames: Frames, generator: random.Random, pages: int, first: int = PFN) -> None:
    """Blocks of everything, one after the other."""
    pfn, end = first, first + pages
    while pfn < end:
        order = generator.choice((0, 0, 0, 1, 2, 3, 4, 6, 9, 10))
        order = min(order, (pfn & -pfn).bit_length() - 1, (end - pfn).bit_length() - 1)
        kind = generator.choice(
            ("free", "cache", "private", "anon", "kernel", "slab", "hugetlb", "swapcache", "offline")
        )
        if kind == "free":
            frames.free(pfn, order)
        elif kind == "cache":
            frames.cache(pfn, order)
        elif kind == "private":
            frames.cache(pfn, order, private=True)
        elif kind == "anon":
            frames.anon(pfn, order)
        elif kind == "slab":
            frames.slab(pfn, order)
        elif kind == "hugetlb" and order >= 1:
            frames.hugetlb(pfn, order)
        elif kind in {"swapcache", "offline"}:
            order = 0
            if kind == "offline" and "OFFLINE" in frames.era.types:
                frames.offline(pfn)
            else:
                frames.swapcache(pfn, backed=generator.random() < 0.5)
        else:
            frames.kernel(pfn, order)
        if generator.random() < 0.02 and kind != "free":
            frames.poison(pfn)
        pfn += 1 << order


@pytest.mark.parametrize("word", [8, 4])
@pytest.mark.parametrize("era", ERAS)
def test_equal_to_plain_scanning(era: str, word: int) -> None:
    generator = random.Random(f"{era} {word}")
    frames = frames_of(era, word)
    if word == 4 and era == "4.1":
        pytest.skip("tails of compound pages were told by two flags")
    fill(frames, generator, 2048)
    data = array(frames, 2048)
    for level in (2, 6, 8, 31):
        tally = classifier(frames, level).classify(data, 2048, PFN)
        assert names(tally) == scan(frames, bytes(data), PFN, level)
        assert not tally.doubts
        assert tally.beyond is None


@pytest.mark.parametrize("era", ["4.14", "5.4", "6.9", "6.12"])
def test_big_endian(era: str) -> None:
    generator = random.Random(era)
    frames = frames_of(era, 8, "big")
    fill(frames, generator, 512)
    data = array(frames, 512)
    for level in LEVELS:
        assert names(classifier(frames, level).classify(data, 512, PFN)) == scan(frames, bytes(data), PFN, level)


@pytest.mark.parametrize("era", ["5.4", "6.1"])
def test_one_byte_of_a_type_makes_no_page_offline(era: str) -> None:
    """A page that is mapped often enough has one in common with it."""
    frames = frames_of(era)
    for pfn in range(PFN, PFN + 33):
        frames.offline(pfn)
    data, size, place = array(frames, 33), len(frames.page(PFN)), frames.layout.mapcount
    for bit in range(32):
        data[bit * size + place + bit // 8] ^= 1 << bit % 8
    found = names(classifier(frames, 31).classify(data, 33, PFN))
    assert found == ["none"] * 32 + ["offline"]


@pytest.mark.parametrize("fragments", [1, 32, 64, 2048])
def test_free_memory_in_few_and_many_pieces(fragments: int) -> None:
    """The two ways to mark free blocks, and both ends of the second."""
    frames = frames_of("6.1")
    for pfn in range(PFN, PFN + 4096, 4096 // fragments):
        frames.free(pfn, min(10, (4096 // fragments).bit_length() - 2 if fragments > 1 else 10))
    data = array(frames, 4096)
    tally = classifier(frames, 31).classify(data, 4096, PFN)
    assert names(tally) == scan(frames, bytes(data), PFN, 31)


def test_partial_slabs() -> None:
    generator = random.Random(3)
    frames = frames_of("6.12")
    fill(frames, generator, 4096)
    whole = scan(frames, bytes(array(frames, 4096)), PFN, 31)
    judge = classifier(frames, 31)
    for _ in range(25):
        start = generator.randrange(4096)
        pages = generator.randrange(1, 4097 - start)
        tally = judge.classify(array(frames, min(pages + 1, 4096 - start), PFN + start), pages, PFN + start)
        plain = scan(frames, bytes(array(frames, pages, PFN + start)), PFN + start, 31)
        for page, name in enumerate(names(tally)):
            assert name in {whole[start + page], plain[page]}
            if name != whole[start + page]:
                assert name == "none"  # inside a block that began before


def test_blocks_that_reach_beyond() -> None:
    frames = frames_of("6.12")
    frames.free(PFN, 10)
    frames.anon(PFN + 2048, 10)
    for first, pages, exclude in ((PFN, 100, ExcludeClass.FREE), (PFN + 2048, 5, ExcludeClass.USER)):
        data = array(frames, pages + 1, first)
        tally = classifier(frames, 31).classify(data, pages, first)
        assert set(tally.classes) == {exclude}
        assert tally.beyond == (first + 1024, exclude)
        tally = classifier(frames, 31, confirmed=False).classify(data, pages, first)
        assert not any(tally.classes)
        assert tally.beyond is None
        assert tally.doubts == [exclude]


@pytest.mark.parametrize("era", ["4.9", "6.1", "6.12"])
def test_blocks_that_hold_other_things_are_kept(era: str) -> None:
    for order in (1, 3, 9):
        for inside in (1, (1 << order) - 1):
            frames = frames_of(era)
            frames.free(PFN, order)
            frames.free(PFN + 1024, 0)
            frames.cache(PFN + inside)
            tally = classifier(frames, 31).classify(array(frames, 2048), 2048, PFN)
            assert tally.doubts == [ExcludeClass.FREE]
            assert [page for page, value in enumerate(tally.classes) if value] == [inside, 1024]
            frames = frames_of(era)
            frames.anon(PFN, order)
            frames.kernel(PFN + inside)
            tally = classifier(frames, 31).classify(array(frames, 2048), 2048, PFN)
            assert tally.doubts == [ExcludeClass.USER]
            assert not any(tally.classes)


def test_blocks_that_are_not_aligned_are_kept() -> None:
    for count in (1, 100):
        frames = frames_of("6.12")
        frames.free(PFN + 1, 1)
        for block in range(1, count):
            frames.free(PFN + 8 * block, 2)
        tally = classifier(frames, 31).classify(array(frames, 1024), 1024, PFN)
        assert tally.doubts == [ExcludeClass.FREE]
        assert not any(tally.classes[:8])
        assert tally.classes.count(ExcludeClass.FREE) == 4 * (count - 1)
        frames.cache(PFN + 513, 2)
        tally = classifier(frames, 2).classify(array(frames, 1024), 1024, PFN)
        assert not any(tally.classes)


def test_orders_that_cannot_be_are_kept() -> None:
    frames = frames_of("6.12")
    frames.orders = 12
    frames.free(PFN, 11)
    frames.orders = 11
    tally = classifier(frames, 31).classify(array(frames, 4096), 4096, PFN)
    assert not any(tally.classes)
    assert tally.doubts == [ExcludeClass.FREE]


def test_flags_that_no_page_has_together() -> None:
    frames = frames_of("6.1")
    frames.cache(PFN)
    frames._flag(PFN, "slab")
    tally = classifier(frames, 31).classify(array(frames, 64), 64, PFN)
    assert not any(tally.classes)
    assert tally.doubts == [ExcludeClass.CACHE]


def test_compound_pages_whose_rest_does_not_know_of_it() -> None:
    frames = frames_of("6.12")
    frames.kernel(PFN, 2)
    frames.kernel(PFN + 8, 2)
    data = array(frames, 64)
    tally = classifier(frames, 31).classify(data, 64, PFN)
    assert (tally.heads, tally.headless) == (2, 0)
    data[9 * 64 + 8] &= 0xFE
    tally = classifier(frames, 31).classify(data, 64, PFN)
    assert (tally.heads, tally.headless) == (2, 1)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(ERAS)),
    st.sampled_from(LEVELS),
    st.integers(0, 1 << 32),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 63), st.integers(0, 255)), max_size=40),
)
def test_garbage_never_leaves_out_more_than_plain_scanning(
    era: str, level: int, seed: int, damage: list[tuple[int, int, int]]
) -> None:
    """Struct pages that were overwritten at random: what is left out, plain scanning leaves out too, as the same."""
    frames = frames_of(era)
    fill(frames, random.Random(seed), 256)
    data = array(frames, 256)
    upper = range(frames.layout.private + 1, frames.layout.private + 8)
    for page, at, value in damage:
        if at not in upper and at != 7:  # of many free blocks only one is looked at in every byte of the order; 7: zone
            data[page * 64 + at] = value
    tally = classifier(frames, level).classify(data, 256, PFN)
    plain = scan(frames, bytes(data), PFN, level)
    found = names(tally)
    if not tally.doubts:
        assert found == plain
    for page, name in enumerate(found):
        if name != plain[page]:
            assert name == "none" or tally.doubts  # a block that was not believed: what is inside speaks for itself
