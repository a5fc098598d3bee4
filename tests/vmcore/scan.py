"""The page filter as makedumpfile does it: one page after the other, by plain reading of each struct page.

Written from the description of its order of tests and the writer's layouts; shares nothing with the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.testing.struct_page_writer import FREE_HUGE_PAGE, HUGETLB_DTOR

if TYPE_CHECKING:
    from netdump.testing.struct_page_writer import Frames


def scan(frames: Frames, data: bytes, pfn: int, level: int) -> list[str]:
    """Class of each page whose struct page is in data."""
    size = frames.layout.size
    count = len(data) // size
    classes = ["none"] * count
    page = 0
    while page < count:
        exclude, pages = _verdict(frames, data, page, pfn, level)
        for number in range(page, min(count, page + pages)):
            if exclude != "none":
                classes[number] = exclude
        page += pages
    return classes


def _uint(frames: Frames, data: bytes, page: int, offset: int, size: int) -> int:
    at = page * frames.layout.size + offset
    return int.from_bytes(data[at : at + size], frames.byteorder)


def _verdict(frames: Frames, data: bytes, page: int, pfn: int, level: int) -> tuple[str, int]:
    era, at, word = frames.era, frames.layout, frames.word
    flags = _uint(frames, data, page, 0, word)
    mapcount = _uint(frames, data, page, at.mapcount, 4)

    def has(name: str) -> bool:
        return name in era.flags and bool(flags >> era.flags[name] & 1)

    def is_type(name: str) -> bool:
        return name in era.types and mapcount == era.types[name] % (1 << 32)

    tail = _uint(frames, data, page, at.lru, word) & 1
    if tail or (era.huge == "pointer" and word == 8 and flags >> era.flags["head"] + 1 & 1):
        return "none", 1
    slab = has("slab") or is_type("SLAB")
    if level & 16 and not slab:
        if is_type("BUDDY"):
            order = _uint(frames, data, page, at.private, word)
            return ("free", 1 << order) if order < frames.orders else ("none", 1)
        if is_type("UNACCEPTED"):
            return "unaccepted", 1 << frames.orders - 1
    order, huge = _compound(frames, data, page) if has("head") else (0, False)
    if order >= 20 or (pfn + page) & (1 << order) - 1:
        order = 0
    anon = bool(_uint(frames, data, page, at.mapping, word) & 1) and not slab
    swapcache = has("swapcache") and not era.unexported and (has("swapbacked") or "swapbacked" not in era.flags)
    cache = has("lru") or swapcache
    if cache and not anon and (level & 4 or (level & 2 and not has("private"))):
        return ("cache_private" if has("private") else "cache"), 1 << order
    if level & 8 and (anon or huge):
        return "user", 1 << order
    if has("hwpoison"):
        return "hwpoison", 1 << order
    if is_type("OFFLINE") and not slab:
        return "offline", 1 << order
    return "none", 1


def _compound(frames: Frames, data: bytes, page: int) -> tuple[int, bool]:
    era, at, word = frames.era, frames.layout, frames.word
    if (page + 2) * at.size > len(data):
        return 0, False
    flags = _uint(frames, data, page + 1, 0, word)
    typed = _uint(frames, data, page, at.mapcount, 4) == era.types.get("HUGETLB", 0) % (1 << 32)
    if era.order == "flags":
        return flags & 0xFF, typed if era.huge == "type" else bool(flags >> 8 & 1)
    first, size = {"word": (page + 1, word), "u32": (page + 1, word // 2), "u8": (page + 1, 1), "folio": (page, 1)}[
        era.order
    ]
    order = _uint(frames, data, first, at.order, min(size, 4))
    dtor = _uint(frames, data, first, at.dtor, size)
    return order, dtor == (FREE_HUGE_PAGE % (1 << 8 * word) if era.huge == "pointer" else HUGETLB_DTOR)
