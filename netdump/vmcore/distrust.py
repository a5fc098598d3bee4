"""What the page filter holds against itself, all along: which classes are still believed, and why others are not.

Owns trust in classes. Must not classify. Nearly every new kernel has broken a page filter somewhere; one that finds its
own results implausible must keep the pages and say so. Nothing here needs a second pass or grows with memory.

Once: the kernel's own memory (text, data, page tables, stacks, the memory map) must be classified as kept. All along:
no more free pages than the zones count; blocks that hold what they must; pointers where pointers must be. What one slab
says that makes no sense is not believed for that slab; when it happens often, the class is stopped for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.pages import ExcludeClass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netdump.vmcore.pagearray import PageArray
    from netdump.vmcore.pageclasses import Tally
    from netdump.vmcore.pagerules import Refusals
    from netdump.vmcore.structpage import PageRules, Wanted

_DOUBTS_MIN: Final = 16  # a crash may have caught some blocks half way
_DOUBTS_PART: Final = 64  # allowed for each slab that has pages of the class
_STRAYS_MAX: Final = 8  # slabs whose struct pages cannot be struct pages
_WITNESSES: Final = 8  # of a slab, if the first one makes no sense
_ZONE_LOOKS: Final = 64

_GROUPS: Final = {
    ExcludeClass.CACHE: "cache",
    ExcludeClass.CACHE_PRIVATE: "cache",
    ExcludeClass.USER: "user",
    ExcludeClass.FREE: "free",
    ExcludeClass.UNACCEPTED: "free",
    ExcludeClass.HWPOISON: "poison",
    ExcludeClass.OFFLINE: "offline",
}
_CLASSES: Final = tuple(_GROUPS.items())
_NAMES: Final = {
    "cache": "cache pages",
    "user": "user pages",
    "free": "free pages",
    "poison": "poisoned pages",
    "offline": "offline pages",
}


class Distrust:
    """Which classes are believed. wanted shrinks, and never grows again.

    frame: the one that is looked at now, None until pages are classified. reasons: as they came up.
    free_limit: most free pages there can be. zones: what the upper half of the flags of a page can be, in those bits
    that zone_mask has; empty if that is not known. last_user: those of these bits that may tell who used a page last.
    """

    __slots__ = (
        "_bad",
        "_doubts",
        "_headless",
        "_heads",
        "_misplaced",
        "_noted",
        "_overwritten",
        "_seen",
        "_strays",
        "frame",
        "free_limit",
        "last_user",
        "reasons",
        "wanted",
        "zone_mask",
        "zones",
    )

    def __init__(self, wanted: Wanted, refusals: Refusals) -> None:
        self.wanted = refusals.apply(wanted)
        self.reasons: list[str] = list(refusals.of(wanted))
        self.frame: int | None = None
        self.free_limit = 0
        self.last_user = 0
        self.zone_mask = 0
        self.zones: frozenset[int] = frozenset()
        self._strays = self._misplaced = 0
        self._noted: set[str] = set()  # groups of which it was said that some pages are kept
        self._overwritten = False
        self._heads = self._headless = 0
        self._doubts = dict.fromkeys(_NAMES, 0)
        self._seen = dict.fromkeys(_NAMES, 0)
        self._bad = dict.fromkeys(_NAMES, 0)

    @property
    def remark(self) -> str | None:
        """Why some pages are not left out though the level asks for it."""
        return "; ".join(self.reasons) or None

    def stop(self, group: str, reason: str) -> None:
        """Keep all pages of a group from now on."""
        if group == "cache":
            stopped = self.wanted._replace(cache=False, cache_private=False)
        else:
            stopped = self.wanted._replace(**{group: False})
        if stopped != self.wanted:
            self.wanted = stopped
            self.reasons.append(f"{_NAMES[group]} are sent too{self._since()}: {reason}")

    def note(self, reason: str) -> None:
        """Say why some pages are kept that the level asks to leave out, without stopping anything."""
        self.reasons.append(reason)

    def _note_some(self, group: str, reason: str) -> None:
        """Say, once, that some pages of a group are kept, unless all are or none were to be left out."""
        wanted = getattr(self.wanted, group) or (group == "cache" and self.wanted.cache_private)
        if wanted and group not in self._noted:
            self._noted.add(group)
            self.note(f"some {_NAMES[group]} are sent too{self._since()}: {reason}")

    def stop_all(self, reason: str) -> None:
        """Keep everything from now on."""
        if not self.wanted.nothing:
            self.wanted = type(self.wanted)(*(False for _ in self.wanted))
            self.reasons.append(f"everything is sent{self._since()}: {reason}")

    def _since(self) -> str:
        return "" if self.frame is None else f" from frame {self.frame:#x} on"

    def check_kernel_pages(self, pages: PageArray, addresses: Iterable[tuple[str, int]]) -> None:
        """Make sure that memory which is the kernel's own is kept. addresses: (what it is, physical address)."""
        for what, paddr in addresses:
            group = _GROUPS.get(pages.judge(paddr // pages.page_bytes, self.wanted).exclude)
            if group is not None:
                self.stop(group, f"{what} would be among them")

    def watch(self, tally: Tally, pages: PageArray, data: bytearray) -> Tally | None:
        """Look at what one slab yielded, before it is answered.

        Returns what is believed of it; None if it is to be classified anew, because a class was stopped.
        """
        before = self.wanted
        self._heads += tally.heads
        self._headless += tally.headless
        if self._headless > _DOUBTS_MIN and self._headless * 8 > self._heads:
            for group in ("cache", "user"):
                self.stop(group, "the rest of compound pages cannot be told from single pages")
        classes = tally.classes
        if ExcludeClass.HWPOISON in classes:
            tally = self._check_poison(tally, pages, data)
        for exclude, group in _CLASSES:
            if exclude in classes and not self._is_believed(exclude, group, tally, pages, data):
                tally = _without(tally, exclude)
        for exclude in tally.doubts:
            group = _GROUPS[exclude]
            self._doubts[group] += 1
            if self._doubts[group] > max(_DOUBTS_MIN, self._seen[group] * _DOUBTS_PART):
                self.stop(group, f"{self._doubts[group]} blocks of them make no sense")
        for group in sorted({_GROUPS[exclude] for exclude in tally.doubts}):
            self._note_some(group, "they claim to be of blocks that make no sense")
        return tally if self.wanted == before else None

    def _is_believed(self, exclude: ExcludeClass, group: str, tally: Tally, pages: PageArray, data: bytearray) -> bool:
        """Look closely at one page of a class in a slab, and at some more if that one makes no sense."""
        self._seen[group] += 1
        size, count = pages.rules.size, len(tally.classes)
        if _plausible(group, pages, data, tally.classes.find(exclude) * size):
            return True
        places = {tally.classes.find(exclude, count * part // _WITNESSES) for part in range(_WITNESSES)} - {-1}
        bad = sum(not _plausible(group, pages, data, page * size) for page in places)
        if bad * 2 <= len(places):
            return True
        self._bad[group] += 1
        if self._bad[group] > _STRAYS_MAX and self._bad[group] * 4 > self._seen[group]:
            self.stop(group, "what their struct pages say makes no sense")
        self._note_some(group, "what their struct pages say makes no sense")
        return False

    def _check_poison(self, tally: Tally, pages: PageArray, data: bytearray) -> Tally:
        """Keep the poisoned pages of a slab that do not look like it; they are so rare that each one is looked at.

        The rest of a compound page goes with its head. Its pages' mappings are none, so of one that is poisoned by
        itself only node and zone are looked at.
        """
        rules, classes, keep = pages.rules, tally.classes, False
        zones = self.zones | self._usual_zone(rules, data, len(classes)) if self.zones else frozenset()
        last, page = -1, classes.find(ExcludeClass.HWPOISON)
        while page >= 0:
            at = page * rules.size
            is_tail = rules.is_tail(data, at)
            if not is_tail or page != last + 1:
                upper = rules.uint(data, at + rules.flags, rules.word) >> 32
                strange = bool(zones) and all((upper ^ zone) & self.zone_mask for zone in zones)
                keep = strange or not (is_tail or _plausible("poison", pages, data, at))
            if keep:
                classes[page] = ExcludeClass.NONE
            last, page = page, classes.find(ExcludeClass.HWPOISON, page + 1)
        return _without_beyond(tally, ExcludeClass.HWPOISON) if keep else tally

    def _usual_zone(self, rules: PageRules, data: bytearray, count: int) -> set[int]:
        """What node and zone most of count struct pages say, as `zones` has it; empty if they do not agree.

        Of a zone that has nothing on its free lists nothing else is known.
        """
        step = max(1, count // _ZONE_LOOKS)
        uppers = [
            rules.uint(data, page * rules.size + rules.flags, rules.word) >> 32 & self.zone_mask
            for page in range(0, count, step)
        ]
        most = max(set(uppers), key=uppers.count)
        return {most} if uppers.count(most) * 2 > len(uppers) else set()

    def note_stray(self, pfn: int) -> None:
        """Struct pages were found in memory that would be left out itself: they are none. Said at the first ones."""
        self._strays += 1
        if self._strays == 1:
            self.note(f"pages around frame {pfn:#x} are sent too: their struct pages lie in memory of others")
        if self._strays > _STRAYS_MAX:
            self.stop_all(f"the struct pages of frame {pfn:#x} and others lie in memory that is not the kernel's")

    def note_misplaced(self, pfn: int) -> None:
        """Struct pages do not know their place: they are those of other frames. Said at the first ones."""
        self._misplaced += 1
        if self._misplaced == 1:
            self.note(f"pages around frame {pfn:#x} are sent too: their struct pages are those of other frames")
        if self._misplaced > _STRAYS_MAX:
            self.stop_all(f"the struct pages of frame {pfn:#x} and others are those of other frames")

    def note_overwritten(self, pfn: int) -> None:
        """So many struct pages were overwritten, up to that of frame pfn, that somebody should know. Said once."""
        if not self._overwritten:
            self._overwritten = True
            self.note(f"pages around frame {pfn:#x} and others are sent too: their struct pages were overwritten")

    def allow_free(self, pages: int) -> bool:
        """Whether so many free pages in all can be. Stops the class if not."""
        if pages <= self.free_limit:
            return True
        self.stop("free", f"there are more than the zones count ({pages} of at most {self.free_limit})")
        return False


def _without(tally: Tally, exclude: ExcludeClass) -> Tally:
    """The same, all pages of a class being kept."""
    return _without_beyond(tally._replace(classes=tally.classes.replace(bytes((exclude,)), b"\0")), exclude)


def _without_beyond(tally: Tally, exclude: ExcludeClass) -> Tally:
    """The same, a block of a class that goes on behind the last page being kept there."""
    return tally._replace(beyond=None) if tally.beyond is not None and tally.beyond[1] == exclude else tally


def _plausible(group: str, pages: PageArray, data: bytearray, at: int) -> bool:
    """Whether a struct page can be one of its group: free pages are not held, others are; pointers point."""
    rules = pages.rules
    users = rules.users(data, at)
    if group == "free":
        return not users
    if group == "offline" or rules.mapping is None:
        return True
    pointer = rules.uint(data, at + rules.mapping, rules.word)
    if group == "poison":
        return pointer & ~3 == 0 or pages.space.has(pointer & ~3)
    if group == "user" and not pointer & 1:
        return True  # a hugetlb page; those of the pool are not held
    pointer &= ~3
    return users != 0 and (pages.space.has(pointer) or (group == "cache" and pointer == 0))
