"""Real cores, cut down to what the page filter reads of them: headers, notes, page tables, zones, struct pages.

    python -m tests.vmcore.real_cores CORE ERA     # writes data/real/NAME.xz, NAME being that of the core

A core is recorded only if plain reading of all its struct pages (scan.py, by the layout of ERA) leaves out the same
frames. When the filter comes to read something else, record again: docs/filter.md says how the cores were captured.
"""

from __future__ import annotations

import json
import lzma
import sys
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netdump.errors import KernelDataError
from netdump.pages import ExcludeClass
from netdump.testing.struct_page_writer import ERAS, Frames
from netdump.vmcore.address_space import open_address_space
from netdump.vmcore.elf import ElfHeaders, parse_headers
from netdump.vmcore.filter import PageFilter, open_filter
from netdump.vmcore.kernel import KernelFacts, read_facts
from netdump.vmcore.paging import PhysicalMemory
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.source import Source, open_source
from netdump.vmcore.vmcoreinfo import Vmcoreinfo
from tests.vmcore.doubles import BytesSource
from tests.vmcore.made_up import Opened
from tests.vmcore.scan import scan

FOLDER = Path(__file__).parent / "data" / "real"
NAMES = sorted(path.stem for path in FOLDER.glob("*.xz"))
LEVEL_BITS = {"cache": 6, "cache_private": 4, "user": 8, "free": 16, "hwpoison": 31, "offline": 31}
_PIECE = 4096


class PiecesSource(BytesSource):
    """An image of which only some pieces are there; the rest cannot be read. offsets: ascending."""

    def __init__(self, size: int, pieces: list[tuple[int, bytes]], name: str) -> None:
        super().__init__(b"", name=name)
        self.size = size
        self._offsets = [offset for offset, _ in pieces]
        self._pieces = [data for _, data in pieces]

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        assert not self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def write(self, path: Path) -> None:
        """Write a file with holes where nothing is there."""
        with path.open("wb") as file:
            for offset, data in zip(self._offsets, self._pieces, strict=True):
                file.seek(offset)
                file.write(data)
            file.truncate(self.size)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = []
        done = 0
        while done < len(buffer):
            at = bisect_right(self._offsets, offset + done) - 1
            into = offset + done - self._offsets[at] if at >= 0 else -1
            part = self._pieces[at][into : into + len(buffer) - done] if into >= 0 else b""
            if part:
                buffer[done : done + len(part)] = part
                done += len(part)
            else:
                length = min(_PIECE - (offset + done) % _PIECE, len(buffer) - done)
                lost.append((done, length))
                done += length
        return lost


class RealCore(NamedTuple):
    """A core, opened. expected: class by frame at level 31, for those that are not kept.

    poisoned: frames that are left out as such unless the level has another reason.
    """

    source: PiecesSource
    headers: ElfHeaders
    image_map: ImageMap
    facts: KernelFacts
    expected: dict[int, str]
    poisoned: frozenset[int]

    def at_level(self, level: int) -> dict[int, str]:
        """What must be left out at a level."""
        named = {pfn: name for pfn, name in self.expected.items() if LEVEL_BITS[name] & level}
        return dict.fromkeys(self.poisoned, "hwpoison") | named

    def classify(self, page_filter: PageFilter) -> dict[int, str]:
        """What a filter leaves out."""
        return _excluded(self.image_map, page_filter, self.facts.page_bytes)


def load(name: str) -> RealCore:
    """A recorded core."""
    data = lzma.decompress((FOLDER / f"{name}.xz").read_bytes())
    length = int.from_bytes(data[:4], "little")
    about = json.loads(data[4 : 4 + length])
    position = 4 + length
    pieces = []
    for offset, size in about["pieces"]:
        pieces.append((offset, data[position : position + size]))
        position += size
    source = PiecesSource(about["size"], pieces, name)
    headers = parse_headers(source.read, source.size, name)
    image_map = ImageMap(headers)
    expected: dict[int, str] = {}
    for first, kind, count in about["runs"]:
        expected |= dict.fromkeys(range(first, first + count), kind)
    poisoned = frozenset(pfn for first, _, count in about.get("poisoned", []) for pfn in range(first, first + count))
    return RealCore(source, headers, image_map, read_facts(source, headers, image_map), expected, poisoned)


def _excluded(image_map: ImageMap, page_filter: PageFilter, page_bytes: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for start, end, _ in image_map.memory():
        pfn, last = start // page_bytes, -(-end // page_bytes)
        while pfn < last:
            for exclude, pages in page_filter.classify(pfn * page_bytes, min(last - pfn, 4096 - pfn % 4096)):
                if exclude != ExcludeClass.NONE:
                    found |= dict.fromkeys(range(pfn, pfn + pages), exclude.name.lower())
                pfn += pages
    return found


class _Recorder:
    """A source that remembers which pieces were read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size, self.name = source.size, source.name
        self.pieces: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        self.pieces.update(range(offset // _PIECE, -(-(offset + length) // _PIECE)))
        return self._source.read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        self.pieces.update(range(offset // _PIECE, -(-(offset + len(buffer)) // _PIECE)))
        return self._source.read_into(offset, buffer)

    def next_data(self, offset: int) -> int:
        return self._source.next_data(offset)

    def identity(self) -> bytes:
        return self._source.identity()

    def close(self) -> None:
        self._source.close()


def _read_symbols(source: Source, headers: ElfHeaders, facts: KernelFacts) -> None:
    """What stands at each symbol of VMCOREINFO and where that points: makedumpfile looks at some."""
    image_map, info = ImageMap(headers), Vmcoreinfo.parse(facts.vmcoreinfo or b"")
    space = open_address_space(PhysicalMemory(source, image_map), headers, info, facts.page_bytes)
    for line in (facts.vmcoreinfo or b"").decode().splitlines():
        if line.startswith("SYMBOL("):
            with suppress(KernelDataError):
                vaddr = int(line.partition("=")[2], 16)
                space.read(vaddr, 512)
                space.read(space.read_uint(vaddr, headers.word_bytes) - 64, 128)


def _scanned(source: Source, headers: ElfHeaders, facts: KernelFacts, era: str, level: int) -> dict[int, str]:
    """What plain reading of all struct pages says at a level."""
    core = Opened.__new__(Opened)
    core.source, core.headers, core.facts = source, headers, facts  # type: ignore[assignment]
    core.image_map, core.info = ImageMap(headers), Vmcoreinfo.parse(facts.vmcoreinfo or b"")
    pages = core.pages()
    frames = Frames(ERAS[era], headers.word_bytes)
    assert frames.layout.size == pages.rules.size
    frames.orders = pages.rules.orders
    found: dict[int, str] = {}
    for start, end, _ in core.image_map.memory():
        first, last = start // facts.page_bytes // 1024 * 1024, -(-end // facts.page_bytes)
        data, pfn = bytearray(), first
        while pfn < last:
            vaddr, there = pages.locate(pfn)
            part = bytearray(min(there, last - pfn) * pages.rules.size)
            if vaddr is not None:
                pages.fill(vaddr, memoryview(part))
            data += part
            pfn += len(part) // pages.rules.size
        kinds = enumerate(scan(frames, bytes(data), first, level), first)
        found |= {pfn: kind for pfn, kind in kinds if kind != "none" and pfn >= start // facts.page_bytes}
    return found


def _runs(excluded: dict[int, str]) -> list[tuple[int, str, int]]:
    """(first frame, class, frames) of frames of one class that follow each other."""
    runs: list[tuple[int, str, int]] = []
    for pfn, kind in sorted(excluded.items()):
        first, before, count = runs[-1] if runs else (-1, "", 0)
        if kind == before and first + count == pfn:
            runs[-1] = (first, kind, count + 1)
        else:
            runs.append((pfn, kind, 1))
    return runs


def record(path: Path, era: str) -> Path:
    """Write what the filter reads of a core, and what it must leave out."""
    recorder = _Recorder(open_source(str(path), "file"))
    headers = parse_headers(recorder.read, recorder.size, str(path))
    image_map = ImageMap(headers)
    facts = read_facts(recorder, headers, image_map)
    excluded = {}
    for level in (31, 1):
        page_filter = open_filter(recorder, headers, facts, level, image_map)
        excluded[level] = _excluded(image_map, page_filter, facts.page_bytes)
        assert page_filter.remark is None
    _read_symbols(recorder, headers, facts)
    places = sorted(recorder.pieces)
    for level, found in excluded.items():
        assert found == _scanned(recorder, headers, facts, era, level)
    poisoned = {pfn: kind for pfn, kind in excluded[1].items() if kind == "hwpoison"}
    pieces: list[list[int]] = []
    for place in places:
        if pieces and sum(pieces[-1]) == place * _PIECE:
            pieces[-1][1] += _PIECE
        else:
            pieces.append([place * _PIECE, _PIECE])
    said = {"size": recorder.size, "pieces": pieces, "runs": _runs(excluded[31]), "poisoned": _runs(poisoned)}
    about = json.dumps(said, separators=(",", ":")).encode()
    data = b"".join(
        recorder._source.read(offset, min(size, recorder.size - offset)).ljust(size, b"\0") for offset, size in pieces
    )
    target = FOLDER / f"{path.name.partition('.elf')[0]}.xz"
    target.parent.mkdir(parents=True, exist_ok=True)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 25}]
    target.write_bytes(lzma.compress(len(about).to_bytes(4, "little") + about + data, filters=filters))
    return target


if __name__ == "__main__":
    written = record(Path(sys.argv[1]), sys.argv[2])
    print(written, written.stat().st_size)
