from __future__ import annotations

import random

import pytest

from netdump.pages import ExcludeClass
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.structpage import KEEP, Verdict, Wanted
from tests.vmcore.scan import scan
from tests.vmcore.test_pageclasses import LEVELS, PFN, array, classifier, fill, frames_of

ALL = Wanted.of_level(31)


def test_wanted() -> None:
    assert Wanted.of_level(0).nothing
    assert Wanted.of_level(1) == Wanted(
        cache=False, cache_private=False, user=False, free=False, poison=True, offline=True
    )
    assert Wanted.of_level(31) == Wanted(*[True] * 6)
    assert Wanted.of_level(2).cache
    assert Wanted.of_level(4).cache_private
    assert Wanted.of_level(8).user
    assert Wanted.of_level(16).free


def test_verdict() -> None:
    assert Verdict(ExcludeClass.UNACCEPTED, 10).is_free
    assert Verdict(ExcludeClass.FREE, 0).is_free
    assert not KEEP.is_free


@pytest.mark.parametrize("word", [8, 4])
@pytest.mark.parametrize("era", ERAS)
def test_one_by_one_as_plain_scanning(era: str, word: int) -> None:
    frames = frames_of(era, word)
    fill(frames, random.Random(era), 512)
    data = array(frames, 512)
    rules = classifier(frames, 31)._rules
    for level in LEVELS:
        wanted = Wanted.of_level(level)
        plain = scan(frames, bytes(data), PFN, level)
        page = 0
        while page < 512:
            verdict = rules.judge(data, page * rules.size, PFN + page, wanted)
            if word == 8 or era != "4.1":
                assert verdict.exclude.name.lower() == plain[page]
            page += 1 << verdict.order
        assert page == 512


def test_the_last_struct_page_has_no_order() -> None:
    frames = frames_of("6.12")
    frames.anon(PFN, 3)
    rules = classifier(frames, 31)._rules
    assert rules.judge(frames.page(PFN), 0, PFN, ALL) == Verdict(ExcludeClass.USER, 0)
    assert rules.order(frames.page(PFN), 0, PFN) == 0
    both = frames.page(PFN) + frames.page(PFN + 1)
    assert rules.judge(both, 0, PFN, ALL) == Verdict(ExcludeClass.USER, 3)
    assert rules.order(both, 0, PFN + 4) == 0  # not aligned


def test_without_what_is_needed() -> None:
    frames = frames_of("6.12")
    frames.free(PFN, 0)
    frames.anon(PFN + 1)
    rules = classifier(frames, 31)._rules
    assert rules._replace(private=None).judge(frames.page(PFN), 0, PFN, ALL) == KEEP
    without = rules._replace(mapping=None, compound=None)
    assert without.judge(frames.page(PFN + 1), 0, PFN + 1, ALL).exclude == ExcludeClass.CACHE
    frames.hugetlb(PFN + 2, 1)
    both = frames.page(PFN + 2) + frames.page(PFN + 3)
    assert without.judge(both, 0, PFN + 2, ALL) == Verdict(ExcludeClass.USER, 0, hugetlb=True)
