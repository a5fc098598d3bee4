from __future__ import annotations

import pytest

from netdump.errors import KernelDataError
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore.pageflags import FlagBits, mask, read_flag_bits
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.test_pageclasses import frames_of


def info_of(era: str, **lines: str) -> Vmcoreinfo:
    known: dict[str, str] = {}
    frames_of(era).describe(known)
    known |= {f"NUMBER({key})": value for key, value in lines.items()}
    return Vmcoreinfo.parse("".join(f"{key}={value}\n" for key, value in known.items() if value).encode())


@pytest.mark.parametrize("era", ERAS)
def test_every_kernel(era: str) -> None:
    flags = ERAS[era].flags
    assert read_flag_bits(info_of(era)) == FlagBits(
        flags["lru"],
        flags["private"],
        None if ERAS[era].unexported else flags["swapcache"],
        None if ERAS[era].unexported else flags.get("swapbacked"),
        flags.get("slab"),
        flags["hwpoison"],
        flags["head"],
    )


def test_keys_that_are_absent() -> None:
    names = ("lru", "private", "swapcache", "swapbacked", "slab", "hwpoison", "head_mask")
    assert read_flag_bits(info_of("6.1", **{f"PG_{name}": "" for name in names})) == FlagBits(*[None] * 7)
    assert read_flag_bits(info_of("6.1", PG_hwpoison="")).hwpoison is None
    assert mask(None) == 0
    assert mask(5) == 32


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ["lru", "private", "swapcache", "swapbacked", "slab"])
def test_a_number_that_does_not_fit_the_others(era: str, name: str) -> None:
    if name not in ERAS[era].flags:
        pytest.skip("not exported")
    right = ERAS[era].flags[name]
    for bit in (-1, *range(33), 64, 1 << 40):
        if bit == right or (name == "swapcache" and ERAS[era].flags["head"] == 14 and bit in {15, 16}):
            continue
        with pytest.raises(KernelDataError, match="no kernel that is known"):
            read_flag_bits(info_of(era, **{f"PG_{name}": str(bit)}))


def test_swapcache_means_nothing_without_swapbacked() -> None:
    known = read_flag_bits(info_of("6.1"))
    assert read_flag_bits(info_of("6.1", PG_swapbacked="")) == known._replace(swapbacked=None, swapcache=None)
    assert read_flag_bits(info_of("4.9")).swapcache == 15


def test_flags_of_a_4_16_of_the_field() -> None:
    numbers = {"lru": 4, "private": 13, "swapcache": 10, "slab": 9, "hwpoison": 23, "head_mask": 65536}
    lines = "".join(f"NUMBER(PG_{name})={value}\n" for name, value in numbers.items())
    assert read_flag_bits(Vmcoreinfo.parse(lines.encode())) == FlagBits(4, 13, None, None, 9, 23, 16)


@pytest.mark.parametrize("head", ["0", "-64", "3", "96", "128"])
def test_head_masks_that_cannot_be(head: str) -> None:
    with pytest.raises(KernelDataError):
        read_flag_bits(info_of("6.12", PG_head_mask=head))
