from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.memmap_writer import PLAYGROUND, x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.distrust import Distrust
from netdump.vmcore.pageclasses import Tally
from netdump.vmcore.pagerules import Refusals
from netdump.vmcore.structpage import Wanted
from tests.vmcore.made_up import Opened, populate

if TYPE_CHECKING:
    from netdump.vmcore.pagearray import PageArray

ALL = Wanted.of_level(31)
_PAGES = {"cache": "cache pages", "user": "user pages", "free": "free pages"}
NOTHING = Tally(bytearray(64), None, [], 0, 0)


def nothing(distrust: Distrust) -> bool:
    return distrust.wanted.nothing


def trusting() -> Distrust:
    return Distrust(ALL, Refusals())


def test_refusals_count_from_the_start() -> None:
    distrust = Distrust(ALL, Refusals(user="nobody knows", free="nobody knows"))
    assert not distrust.wanted.user
    assert distrust.wanted.cache
    assert distrust.remark == "nobody knows"
    assert Distrust(Wanted.of_level(2), Refusals(user="nobody knows")).remark is None


def test_stopping() -> None:
    distrust = trusting()
    distrust.stop("cache", "of a test")
    assert (distrust.wanted.cache, distrust.wanted.cache_private) == (False, False)
    distrust.stop("cache", "of another test")
    distrust.stop("user", "of a test")
    assert distrust.remark == "cache pages are sent too: of a test; user pages are sent too: of a test"
    distrust.stop_all("enough")
    assert nothing(distrust)
    distrust.stop_all("enough again")
    distrust.stop("free", "too late")
    assert distrust.remark.endswith("everything is sent: enough")


def test_from_where_on() -> None:
    distrust = trusting()
    distrust.frame = 0x1000
    distrust.stop("user", "of a test")
    distrust.frame = 0x2000
    distrust.stop_all("enough")
    assert distrust.reasons == [
        "user pages are sent too from frame 0x1000 on: of a test",
        "everything is sent from frame 0x2000 on: enough",
    ]


@pytest.mark.parametrize(
    ("kind", "group"),
    [("cache", "cache"), ("anon", "user"), ("free", "free"), ("offline", "offline"), ("poison", "poison")],
)
def test_the_kernels_own_memory(kind: str, group: str) -> None:
    """A page that is certainly the kernel's is classified as something else: then that class is not believed."""
    machine = x86_64(ERAS["6.12"])
    method = getattr(machine.frames, kind)
    method(PLAYGROUND, *([0] if kind == "free" else []))
    pages = Opened.of(machine).pages()
    distrust = trusting()
    distrust.check_kernel_pages(pages, [("the test", PLAYGROUND << 12), ("more", 0x1234), ("far", 1 << 50)])
    assert not getattr(distrust.wanted, group)
    assert "the test would be among them" in str(distrust.remark)
    assert sum(distrust.wanted) == (4 if group == "cache" else 5)


def slab(exclude: ExcludeClass, pages: PageArray, pfn: int) -> tuple[Tally, bytearray]:
    data = bytearray(pages.read(pfn) or b"")
    classes = bytearray(64)
    classes[0] = exclude
    return Tally(classes, None, [], 0, 0), data


@pytest.mark.parametrize(
    ("page", "at", "value", "exclude", "group"),
    [
        (1032, 24, 0x1234, ExcludeClass.CACHE, "cache"),
        (1032, 52, 0, ExcludeClass.CACHE, "cache"),
        (1034, 24, 0x1235, ExcludeClass.USER, "user"),
        (0, 52, 1, ExcludeClass.FREE, "free"),
    ],
)
def test_struct_pages_that_make_no_sense(page: int, at: int, value: int, exclude: ExcludeClass, group: str) -> None:
    """They are not believed where they are; and nowhere any more when one slab in four has them."""
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    good, data = slab(exclude, pages, PLAYGROUND + page)
    bad = bytearray(data)
    bad[at : at + 8] = value.to_bytes(8, "little")
    distrust = trusting()
    for _ in range(100):
        assert distrust.watch(good, pages, data) == good
    for _ in range(33):
        believed = distrust.watch(good._replace(beyond=(1, exclude)), pages, bad)
        assert believed is not None
        assert not any(believed.classes)
        assert believed.beyond is None
        assert distrust.remark == f"some {_PAGES[group]} are sent too: what their struct pages say makes no sense"
    for _ in range(2):
        distrust.watch(good, pages, bad)
    assert not getattr(distrust.wanted, group)
    assert distrust.reasons[1:] == [f"{_PAGES[group]} are sent too: what their struct pages say makes no sense"]


def test_one_bad_page_among_many() -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    _, page = slab(ExcludeClass.CACHE, pages, PLAYGROUND + 1032)
    data = bytearray(page[:64] * 64)
    data[24:32] = (0x1234).to_bytes(8, "little")
    distrust = trusting()
    tally = Tally(bytearray(bytes((ExcludeClass.CACHE,)) * 64), None, [], 0, 0)
    assert distrust.watch(tally, pages, data) == tally
    assert distrust.remark is None


def test_struct_pages_in_memory_of_others() -> None:
    distrust = trusting()
    for _ in range(8):
        distrust.note_stray(0x1234)
    assert not nothing(distrust)
    assert distrust.remark == "pages around frame 0x1234 are sent too: their struct pages lie in memory of others"
    distrust.note_stray(0x1234)
    assert nothing(distrust)
    assert "the struct pages of frame 0x1234" in str(distrust.remark)


def test_struct_pages_of_other_frames() -> None:
    distrust = trusting()
    for _ in range(8):
        distrust.note_misplaced(0x1234)
    assert not nothing(distrust)
    assert distrust.remark == "pages around frame 0x1234 are sent too: their struct pages are those of other frames"
    distrust.note_misplaced(0x1234)
    assert nothing(distrust)
    assert "those of other frames" in str(distrust.remark)


def test_struct_pages_that_were_overwritten() -> None:
    distrust = trusting()
    for pfn in (0x1234, 0x5678):
        distrust.note_overwritten(pfn)
    assert not nothing(distrust)
    assert distrust.remark == "pages around frame 0x1234 and others are sent too: their struct pages were overwritten"


@pytest.mark.parametrize(("at", "value"), [(24, 0x1234), (7, 0x55), (4, 0xFFFF_FFFF)])
def test_poisoned_pages_that_make_no_sense(at: int, value: int) -> None:
    """Each is looked at: whether its mapping is a pointer, and its node and zone are some."""
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    tally, page = slab(ExcludeClass.HWPOISON, pages, PLAYGROUND + 1070)
    tally.classes[1] = ExcludeClass.HWPOISON
    data = bytearray(page[:64] * 2)
    distrust = trusting()
    distrust.zones, distrust.zone_mask = frozenset({0x0400_0000}), 0xFFFF_0000
    assert distrust.watch(tally, pages, data) is not None
    assert tally.classes.count(ExcludeClass.HWPOISON) == 2
    length = 1 if at == 7 else 4
    data[64 + at : 64 + at + length] = value.to_bytes(length, "little")
    assert distrust.watch(tally, pages, data) is not None
    assert tally.classes[0] == ExcludeClass.HWPOISON
    assert tally.classes[1] == ExcludeClass.NONE
    assert distrust.remark is None


@pytest.mark.parametrize("alike", [48, 16])
def test_a_poisoned_page_of_a_zone_that_has_nothing_free(alike: int) -> None:
    """Then the pages around it, alike in so many of 64, speak for its node and zone."""
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    tally, page = slab(ExcludeClass.HWPOISON, pages, PLAYGROUND + 1070)
    data = bytearray(page[:64] * 64)
    for number in range(64):
        data[number * 64 + 7] = 0x55 if number < alike else number
    distrust = trusting()
    distrust.zones, distrust.zone_mask = frozenset({0x0400_0000}), 0xFFFF_0000
    assert distrust.watch(tally, pages, data) is not None
    assert (tally.classes[0] == ExcludeClass.HWPOISON) == (alike == 48)


def test_a_poisoned_page_of_hugetlbfs() -> None:
    """The rest of it goes with its head, whatever stands in its mappings; and what reaches beyond, too."""
    machine = x86_64(ERAS["6.12"])
    frames, first = machine.frames, PLAYGROUND
    frames.hugetlb(first, 9)
    frames.poison(first)
    for page in range(first + 1, first + 512):
        frames._put(page, frames.layout.mapping, 0xDEAD_0000_0000_0400)  # TAIL_MAPPING
    pages = Opened.of(machine).pages()
    data = bytearray(frames.array(first, 256))
    tally = Tally(bytearray((ExcludeClass.HWPOISON,)) * 256, (first + 512, ExcludeClass.HWPOISON), [], 0, 0)
    distrust = trusting()
    assert distrust.watch(tally, pages, data) == tally
    assert tally.classes.count(ExcludeClass.HWPOISON) == 256
    data[24:32] = (0x1234).to_bytes(8, "little")
    believed = distrust.watch(tally, pages, data)
    assert believed is not None
    assert (any(believed.classes), believed.beyond) == (False, None)
    assert distrust.remark is None


def test_a_poisoned_page_within_a_compound_page_that_is_not() -> None:
    """Its mapping is none; but node and zone are those of some page, and no other poisoned page speaks for it."""
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    tally, page = slab(ExcludeClass.HWPOISON, pages, PLAYGROUND + 1070)
    tally.classes[2] = ExcludeClass.HWPOISON
    data = bytearray(page[:64] * 3)
    at = 2 * 64
    data[at + pages.rules.tail] |= 1
    data[at + 24 : at + 32] = (0xDEAD_0000_0000_0400).to_bytes(8, "little")  # TAIL_MAPPING
    distrust = trusting()
    distrust.zones, distrust.zone_mask = frozenset({0x0400_0000}), 0xFFFF_0000
    assert distrust.watch(tally, pages, data) is not None
    assert (tally.classes[0], tally.classes[2]) == (ExcludeClass.HWPOISON, ExcludeClass.HWPOISON)
    data[at + 7] = 0x55
    assert distrust.watch(tally, pages, data) is not None
    assert (tally.classes[0], tally.classes[2]) == (ExcludeClass.HWPOISON, ExcludeClass.NONE)


def test_what_makes_sense() -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    distrust = trusting()
    hugetlb = bytearray(pages.read(PLAYGROUND + 1536) or b"")
    hugetlb[52:56] = bytes(4)  # in the pool: not held
    truncated = bytearray(pages.read(PLAYGROUND + 1032) or b"")
    truncated[24:32] = bytes(8)
    for exclude, data in ((ExcludeClass.USER, hugetlb), (ExcludeClass.CACHE, truncated)):
        classes = bytearray(64)
        classes[0] = exclude
        for _ in range(50):
            tally = Tally(classes, None, [], 0, 0)
            assert distrust.watch(tally, pages, data) == tally
    assert distrust.remark is None


@pytest.mark.parametrize("unknown", [{"refcount": None}, {"mapping": None}], ids=str)
def test_members_that_vmcoreinfo_does_not_name(unknown: dict[str, None]) -> None:
    """What they would say is not asked for."""
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    looks = [
        slab(exclude, pages, PLAYGROUND + page) for exclude, page in ((ExcludeClass.FREE, 0), (ExcludeClass.USER, 1034))
    ]
    pages.rules = pages.rules._replace(**unknown)  # type: ignore[arg-type]
    distrust = trusting()
    for tally, data in looks:
        assert distrust.watch(tally, pages, data) == tally
    assert distrust.remark is None


def test_doubts() -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    tally, data = slab(ExcludeClass.FREE, pages, PLAYGROUND)
    distrust = trusting()
    for _ in range(3):
        assert distrust.watch(tally, pages, data) == tally
    doubtful = tally._replace(doubts=[ExcludeClass.FREE] * 60)
    for _ in range(3):
        assert distrust.watch(doubtful, pages, data) == doubtful
        assert distrust.remark == "some free pages are sent too: they claim to be of blocks that make no sense"
    assert distrust.watch(doubtful._replace(doubts=[ExcludeClass.FREE] * 400), pages, data) is None
    assert not distrust.wanted.free
    assert "blocks of them make no sense" in str(distrust.remark)


def test_doubts_about_a_class_of_which_nothing_was_seen() -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    distrust = trusting()
    assert distrust.watch(NOTHING._replace(doubts=[ExcludeClass.CACHE] * 16), pages, bytearray(64 * 64))
    assert distrust.watch(NOTHING._replace(doubts=[ExcludeClass.CACHE]), pages, bytearray(64 * 64)) is None
    assert not distrust.wanted.cache


@pytest.mark.parametrize(
    ("level", "reasons"),
    [
        (2, ["some cache pages are sent too from frame 0x2000 on: they claim to be of blocks that make no sense"]),
        (4, ["some cache pages are sent too from frame 0x2000 on: they claim to be of blocks that make no sense"]),
        (8, []),
    ],
)
def test_doubts_are_told_of_once_if_the_class_is_wanted(level: int, reasons: list[str]) -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    distrust = Distrust(Wanted.of_level(level), Refusals())
    distrust.frame = 0x2000
    doubtful = NOTHING._replace(doubts=[ExcludeClass.CACHE])
    for _ in range(2):
        assert distrust.watch(doubtful, pages, bytearray(64 * 64)) == doubtful
    assert distrust.reasons == reasons


def test_compound_pages_without_a_rest() -> None:
    pages = Opened.of(populate(x86_64(ERAS["6.12"]))).pages()
    distrust = trusting()
    data = bytearray(64 * 64)
    for _ in range(16):
        assert distrust.watch(NOTHING._replace(heads=4, headless=1), pages, data)
    assert distrust.watch(NOTHING._replace(heads=4, headless=1), pages, data) is None
    assert not distrust.wanted.cache
    assert not distrust.wanted.user
    assert distrust.wanted.free
