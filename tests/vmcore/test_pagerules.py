from __future__ import annotations

import pytest

from netdump.errors import KernelDataError
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.elf import ElfHeaders
from netdump.vmcore.pagerules import Refusals, read_rules, unknown_compounds
from netdump.vmcore.structpage import PageRules, Wanted
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.test_pageclasses import frames_of

ALL = Wanted.of_level(31)


def rules_of(era: str, lines: dict[str, str] | None = None, word: int = 8) -> tuple[PageRules, Refusals]:
    known: dict[str, str] = {}
    frames_of(era, word).describe(known)
    known |= lines or {}
    text = "".join(f"{key}={value}\n" for key, value in known.items() if value)
    headers = ElfHeaders(8 * word, "little", 62 if word == 8 else 3, 0, 0, b"", b"", ())
    return read_rules(Vmcoreinfo.parse(text.encode()), headers)


@pytest.mark.parametrize("word", [8, 4])
@pytest.mark.parametrize("era", ERAS)
def test_every_kernel_tells_everything(era: str, word: int) -> None:
    rules, refusals = rules_of(era, word=word)
    assert refusals == Refusals()
    assert refusals.apply(ALL) == ALL
    assert rules.types.buddy == ERAS[era].types["BUDDY"] % (1 << 32)
    assert rules.compound is not None
    assert rules.orders == 11
    assert rules.tail == rules.lru


@pytest.mark.parametrize(
    ("key", "lost"),
    [
        ("NUMBER(PG_lru)", {"cache", "cache_private"}),
        ("NUMBER(PG_private)", {"cache", "cache_private"}),
        ("OFFSET(page.mapping)", {"cache", "cache_private", "user"}),
        ("NUMBER(PG_slab)", {"user", "free", "offline"}),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", {"free", "offline", "user"}),
        ("OFFSET(page.private)", {"free"}),
        ("LENGTH(zone.free_area)", {"free"}),
        ("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", set()),
        ("NUMBER(PG_hwpoison)", set()),
        ("NUMBER(PG_head_mask)", set()),
        ("OFFSET(page._refcount)", set()),
        ("OFFSET(page.compound_head)", set()),
    ],
)
def test_an_absent_key_is_unknown(key: str, lost: set[str]) -> None:
    _, refusals = rules_of("6.1", {key: ""})
    left = refusals.apply(ALL)
    assert {name for name in ALL._fields if not getattr(left, name)} == lost
    assert bool(refusals.of(ALL)) == bool(lost)
    assert refusals.of(Wanted.of_level(0)) == ()


@pytest.mark.parametrize(
    ("era", "name", "lost"),
    [
        ("6.12", "OFFLINE", {"offline"}),
        ("6.12", "SLAB", {"offline", "user", "free"}),
        ("6.12", "HUGETLB", {"offline", "user"}),
        ("6.12", "BUDDY", {"offline", "user", "free"}),
        ("5.4", "OFFLINE", {"offline"}),
        ("5.4", "BUDDY", {"offline", "user", "free"}),
    ],
)
def test_page_types_that_do_not_fit_the_others(era: str, name: str, lost: set[str]) -> None:
    for value in ("-1", "0", "-2", "-513", "-234881024", "5"):
        rules, refusals = rules_of(era, {f"NUMBER(PAGE_{name}_MAPCOUNT_VALUE)": value})
        left = refusals.apply(ALL)
        assert {field for field in ALL._fields if not getattr(left, field)} == lost
        assert getattr(rules.types, name.lower()) is None
        assert any("page types" in reason or "slab" in reason for reason in refusals.of(ALL))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"SIZE(page)": ""}, r"no SIZE\(page\)"),
        ({"SIZE(page)": "0"}, "of 0 bytes makes no sense"),
        ({"SIZE(page)": "63"}, "of 63 bytes makes no sense"),
        ({"SIZE(page)": str(1 << 62)}, "makes no sense"),
        ({"SIZE(page)": "48"}, "lie outside its 48 bytes"),
        ({"OFFSET(page.flags)": ""}, "no OFFSET"),
        ({"OFFSET(page.flags)": "8"}, "as in no kernel"),
        ({"OFFSET(page._mapcount)": "52"}, "as in no kernel"),
        ({"OFFSET(page.mapping)": "32"}, "as in no kernel"),
        ({"OFFSET(page.private)": "32"}, "as in no kernel"),
        ({"OFFSET(page.lru)": "16"}, "as in no kernel"),
        ({"OFFSET(page.lru)": "16", "OFFSET(page.compound_head)": "16"}, "as in no kernel"),
        ({"OFFSET(page._refcount)": "48"}, "as in no kernel"),
        ({"OFFSET(page.compound_head)": "16"}, "as in no kernel"),
        ({"NUMBER(HUGETLB_PAGE_DTOR)": "1"}, "HUGETLB_PAGE_DTOR 1"),
        ({"OFFSET(page.compound_order)": "19"}, "lie oddly"),
        ({"OFFSET(page.compound_order)": "16", "OFFSET(page.compound_dtor)": "17"}, "lie oddly"),
        ({"OFFSET(page.compound_order)": "65", "OFFSET(page.compound_dtor)": "64"}, "second struct page"),
    ],
)
def test_what_cannot_be(lines: dict[str, str], message: str) -> None:
    with pytest.raises(KernelDataError, match=message):
        rules_of("6.1", lines)


def test_folio_that_lies() -> None:
    with pytest.raises(KernelDataError, match="second struct page"):
        rules_of("6.3", {"OFFSET(folio._folio_order)": "17"})
    with pytest.raises(KernelDataError, match="PG_hugetlb 3"):
        rules_of("6.6", {"NUMBER(PG_hugetlb)": "3"})


def test_orders_without_destructors() -> None:
    for era, keys in (
        ("6.1", ("OFFSET(page.compound_dtor)",)),
        ("6.1", ("NUMBER(HUGETLB_PAGE_DTOR)",)),
        ("6.3", ("OFFSET(folio._folio_dtor)",)),
        ("4.9", ("NUMBER(HUGETLB_PAGE_DTOR)",)),
        ("6.6", ("NUMBER(PG_hugetlb)",)),
    ):
        rules, _ = rules_of(era, dict.fromkeys(keys, ""))
        assert rules.compound is not None
        assert rules.compound.huge_at is None
    assert rules_of("6.1", {"OFFSET(page.compound_order)": ""})[0].compound is None


def test_tails_of_old() -> None:
    assert rules_of("4.1")[0].tail_mask == 1 << 15
    assert rules_of("4.1", {"NUMBER(PG_swapcache)": "15"})[0].tail_mask == 0  # 32 bits: another flag stands there
    assert rules_of("4.6")[0].tail_mask == 0
    assert rules_of("6.1")[0].tail_mask == 0


def test_orders_that_cannot_be() -> None:
    for length in ("0", "33", str(1 << 60)):
        rules, refusals = rules_of("6.1", {"LENGTH(zone.free_area)": length})
        assert rules.orders == 0
        assert refusals.free is not None


@pytest.mark.parametrize(
    ("era", "lines", "says"),
    [
        ("6.12", {}, ""),
        ("4.1", {}, ""),
        ("6.1", {"NUMBER(PG_head_mask)": ""}, "how large compound pages are"),
        ("6.1", {"OFFSET(page.compound_order)": ""}, "how large compound pages are"),
        ("6.1", {"OFFSET(page.compound_dtor)": ""}, "which pages are of hugetlbfs"),
        ("6.6", {"NUMBER(PG_hugetlb)": ""}, "which pages are of hugetlbfs"),
        ("6.12", {"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": ""}, "which pages are of hugetlbfs"),
    ],
)
def test_compound_pages_that_are_kept_for_want_of_a_key(era: str, lines: dict[str, str], says: str) -> None:
    rules, _ = rules_of(era, lines)
    assert says in "".join(unknown_compounds(rules, ALL))
    assert bool(says) == bool(unknown_compounds(rules, ALL))
    assert unknown_compounds(rules, Wanted.of_level(16)) == ()
