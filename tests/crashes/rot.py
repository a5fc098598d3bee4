"""One wrong bit: on the wire, in what is stored, in what fetch downloads, in the index.

Places are every byte of headers, tables, trailers and documents, one in each 512 bytes of payload, and one in each five
bytes of the index that are in use. Whatever the
bit, it is found with an error of the right class and nothing wrong is stored, shown or published; or it is one of the
few that mean nothing, and then what comes out is byte for byte what it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from netdump import wire
from netdump.errors import DamagedError, IndexFaultError, RemoteError, RemoteProtocolError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.packing import Packer, unpack_pieces
from netdump.index.place import NAME
from netdump.index.reading import Query, plan_json
from netdump.remote.answers import parse_plan
from netdump.remote.fetch import fetch
from netdump.remote.patience import Patience
from netdump.server.latecatalog import open_catalog
from netdump.store.intake import verify_chunk, verify_headline
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import deliver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.index.reading import FetchPlan
    from netdump.index.record import DumpRecord
    from tests.campaign.frame import Tally

SAMPLE: Final = SampleDump(seed=3, image_bytes=40_000, chunk_bytes=9_000)
ID: Final = SAMPLE.origin.id
ROOT: Final = Path("dumps")
HEADER: Final = 160  # bytes of a frame that hold its headers, numbers, digest and short run tables
PAYLOAD_STEP: Final = 512
INDEX_STEP: Final = 5
ONE_TRY: Final = Patience(1, 0.0, 0.0)
STRIDE: Final = 7919  # consecutive cases are far apart, so that a part of them has something of everything


class Place(NamedTuple):
    """A byte. medium: which look_at_… is for it."""

    medium: str
    file: str
    position: int


@cache
def places() -> tuple[Place, ...]:
    """All bytes that are looked at."""
    found = [Place("wire", "", position) for position in _marked(stream(), _frame_starts())]
    disk = stored()
    for name in disk.all_names():
        content = disk.content(name)
        if name.endswith(".seg"):
            marked = _marked(content, [0, len(content) - 600, *_frames_in(content)])
            found += [Place(medium, name, position) for medium in ("store", "fetch") for position in marked]
            found += [Place("packed", name, position) for position in _marked(_packed(bytes(content)), [0])]
        elif not name.endswith("lock"):
            whole = name.endswith((".json", "headline"))
            found += [
                Place("store", name, position) for position in range(0, len(content), 1 if whole else PAYLOAD_STEP)
            ]
    found += [Place("plan", "", position) for position in range(len(_plan()))]
    index = (collector_folder() / NAME).read_bytes()
    used = [position for position in range(len(index)) if any(index[max(0, position - 16) : position + 17])]
    found += [Place("index", NAME, position) for position in used[::INDEX_STEP]]
    return tuple(found)


def _marked(content: bytes | bytearray, starts: list[int]) -> list[int]:
    marked = set(range(0, len(content), PAYLOAD_STEP))
    for start in starts:
        marked.update(range(max(0, start), min(start + HEADER, len(content))))
    marked.update(range(max(0, len(content) - 600), len(content)))
    return sorted(marked)


def _frames_in(content: bytearray) -> list[int]:
    return [content.index(chunk.frame) for chunk in SAMPLE.chunks if chunk.frame in content]


def look(case: int, tally: Tally) -> None:
    """Flip one bit."""
    number = case * STRIDE % len(places())
    place = places()[number]
    bit = 1 << (case // len(places()) + place.position) % 8
    found = _LOOKS[place.medium](place, bit)
    tally.count("bits found" if found else "bits that mean nothing")


def cases() -> int:
    """Every place with every bit."""
    return 8 * len(places())


# On the wire


@cache
def messages() -> tuple[wire.Message, ...]:
    raw = SAMPLE.headline
    headline = wire.Headline(wire.CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw)
    return (headline, *SAMPLE.chunks, wire.Finish(len(SAMPLE.image), len(SAMPLE.chunks), SAMPLE.root))


@cache
def stream() -> bytes:
    """What a client sends after RESUME."""
    return b"".join(wire.pack(message) for message in messages())


@cache
def _frame_starts() -> list[int]:
    starts, end = [], 0
    for message in messages():
        starts.append(end)
        end += len(wire.pack(message))
    return starts


def look_at_wire(place: Place, bit: int) -> bool:
    data = bytearray(stream())
    data[place.position] ^= bit
    core = wire.Connection(wire.Role.COLLECTOR, 0.0)
    origin = SAMPLE.origin
    hello = wire.Hello(SAMPLE.dump_id, origin.image_bytes, origin.page_bytes, origin.level, origin.agent)
    core.receive_data(wire.pack(hello), 0.0)
    core.next_event()
    chain = wire.chain_start(SAMPLE.dump_id, origin.image_bytes)
    core.send(wire.Resume(0, chain, 0, headline=False, credit=wire.CREDIT_MAX, keepalive=5, idle=30), 0.0)
    core.receive_data(bytes(data), 0.0)
    accepted: list[Any] = []
    try:
        while (message := core.next_event()) is not None:
            accepted += _taken(message)
    except RemoteProtocolError as error:
        reason = error.reason
    else:
        reason = ""
    assert reason in {"", *(code.slug for code in wire.ErrorCode)}, reason
    # Nothing was accepted that is not as it was. A headline may have been lost: it is not needed.
    assert accepted == [each for each in _expected() if each in accepted], "something else was accepted"
    return bool(reason) or len(accepted) < len(_expected())  # it waits for more, or has skipped a message


def _taken(message: wire.Message) -> list[Any]:
    """What a collector accepts of a message. Raises RemoteProtocolError."""
    match message:
        case wire.Chunk():
            return [(message.offset, message.length, message.table, bytes(verify_chunk(message)))]
        case wire.Headline():
            return [verify_headline(message)]
        case wire.Finish() if message.root != SAMPLE.root:
            raise RemoteProtocolError("bad-root", "as the store says")
        case wire.Finish():
            return [message.root]
        case _:
            return []


@cache
def _expected() -> list[Any]:
    chunks = [(each.offset, each.length, each.table, bytes(verify_chunk(each))) for each in SAMPLE.chunks]
    return [SAMPLE.headline, *chunks, SAMPLE.root]


# At rest


@cache
def _stored() -> MemoryFiles:
    disk = MemoryFiles()
    store = Store(ROOT, disk)
    deliver(store, SAMPLE)
    store.dump(ID).reassemble()
    disk.sync_folder("")
    return disk


def stored() -> MemoryFiles:
    return _stored().after_power_cut()


def look_at_store(place: Place, bit: int) -> bool:
    disk = stored()
    disk.content(place.file)[place.position] ^= bit
    dump = Store(ROOT, disk).dump(ID)
    report = dump.verify()
    if place.file.endswith("/vmcore"):
        assert report.ok
        assert report.view is not None
    elif place.file.endswith("/receipt.json"):
        assert not report.ok
    published = _published(dump.reassemble)
    if published is None:
        assert not report.ok, "reading found what verify has not"
    return not report.ok or report.view is not None


def _published(make: Callable[[Path], object]) -> bytes | None:
    """What making a file comes to: None if it is refused, as damaged or as no answer, and no file is there."""
    with tempfile.TemporaryDirectory(prefix="netdump-rot-") as folder:
        target = Path(folder) / "image"
        try:
            make(target)
        except (DamagedError, RemoteError):
            assert not target.exists(), "a file was published"
            return None
        content = target.read_bytes()
    assert content == SAMPLE.image, "a wrong image was published"
    return content


# What fetch downloads


@cache
def _holder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="netdump-rot-")


@cache
def collector_folder() -> Path:
    folder = Path(_holder().name)
    (folder / "dumps").mkdir()
    deliver(Store(folder / "dumps"), SAMPLE)
    deliver(Store(folder / "dumps"), SampleDump(seed=4, image_bytes=9_000), 2)
    with LocalCatalog(folder) as catalog:
        catalog.refresh()
    return folder


@cache
def _plan() -> bytes:
    """The answer that names the segments."""
    with LocalCatalog(collector_folder()) as catalog:
        return json.dumps(plan_json(catalog.plan(ID))).encode()


def _packed(content: bytes) -> bytes:
    return Packer().pack(content)


class _Rotten(LocalCatalog):
    """A collector one of whose answers has one wrong bit: the plan, or a segment, plain or packed."""

    def __init__(self, place: Place, bit: int) -> None:
        super().__init__(collector_folder())
        self._place = place
        self._bit = bit

    def _spoilt(self, content: bytes, medium: str, name: str = "") -> bytes:
        spoilt = bytearray(content)
        if self._place.medium == medium and self._place.file.endswith(name) and self._place.position < len(spoilt):
            spoilt[self._place.position] ^= self._bit
        return bytes(spoilt)

    def plan(self, dump_id: str) -> FetchPlan:
        assert dump_id == ID
        return parse_plan(self._spoilt(_plan(), "plan"))

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        content = b"".join(super().read_segment(dump_id, name, 0))
        yield self._spoilt(content, "fetch", name)[offset:]

    def read_packed(self, dump_id: str, name: str, offset: int, *, always: bool) -> Iterator[tuple[bytes, int]]:
        if self._place.medium != "packed":
            yield from super().read_packed(dump_id, name, offset, always=always)
            return
        content = b"".join(self.read_segment(dump_id, name, offset))
        if content:
            yield from unpack_pieces(BytesIO(self._spoilt(_packed(content), "packed", name)).read)


class _Silence:
    """A Progress."""

    def begin(self, total: int, done: int, what: str = "") -> None:
        pass

    def advance(self, count: int) -> None:
        pass


def look_at_fetch(place: Place, bit: int) -> bool:
    with _Rotten(place, bit) as catalog:
        record = catalog.show(ID)
        return _published(lambda target: fetch(catalog, record, target, _Silence(), jobs=1, patience=ONE_TRY)) is None


# In the index


@cache
def _records() -> list[DumpRecord]:
    with LocalCatalog(collector_folder()) as catalog:
        return catalog.list(Query())


def look_at_index(place: Place, bit: int) -> bool:
    expected = _records()
    with tempfile.TemporaryDirectory(prefix="netdump-rot-") as name:
        folder = Path(name) / "collector"
        shutil.copytree(collector_folder(), folder)
        content = bytearray((folder / NAME).read_bytes())
        content[place.position] ^= bit
        (folder / NAME).write_bytes(content)
        found = _index_complains(folder, expected)
        events: list[str] = []
        try:
            with open_catalog(folder, lambda event, **fields: events.append(event)) as catalog:
                _assert_lists(catalog, expected)
        except IndexFaultError as error:
            assert "reindex" in str(error)  # noqa: PT017  # taken for another program's, or of a newer version
        return _mends(folder, place, bit, expected) or found or bool(events)


def _mends(folder: Path, place: Place, bit: int, expected: list[DumpRecord]) -> bool:
    """Whether a catalog that is in use mends what rots under it. Reads what SQLite has in memory are right anyway."""
    mended: list[str] = []
    shutil.copy(collector_folder() / NAME, folder / NAME)
    with LocalCatalog(folder, lambda reason, done: mended.append(done)) as catalog:
        _assert_lists(catalog, expected)
        with (folder / NAME).open("r+b") as file:
            file.seek(place.position)
            byte = file.read(1)[0]
            file.seek(place.position)
            file.write(bytes([byte ^ bit]))
        # By this counter SQLite notices that somebody else has changed the file, and forgets what it has read.
        if place.position not in range(24, 28):
            with (folder / NAME).open("r+b") as file:
                file.seek(24)
                counter = int.from_bytes(file.read(4), "big")
                file.seek(24)
                file.write((counter + 1).to_bytes(4, "big"))
        try:
            _assert_lists(catalog, expected)
        except IndexFaultError as error:
            assert "reindex" in str(error)  # noqa: PT017
    return bool(mended)


def _assert_lists(catalog: LocalCatalog, expected: list[DumpRecord]) -> None:
    assert [_without_order(each) for each in catalog.list(Query())] == [_without_order(each) for each in expected]


def _index_complains(folder: Path, expected: list[DumpRecord]) -> bool:
    """What a command sees: right records, or an error that names the remedy."""
    try:
        with Index.open(folder / NAME) as index:
            shown = {record.id: record for record in index.list()}
    except IndexFaultError as error:
        assert "reindex" in str(error)  # noqa: PT017
        return True
    known = {record.id: record for record in expected}
    assert all(_without_order(record) == _without_order(known[dump_id]) for dump_id, record in shown.items())
    return len(shown) < len(known)


def _without_order(record: DumpRecord) -> DumpRecord:
    return replace(record, order_ns=0)


_LOOKS: Final = {
    "wire": look_at_wire,
    "store": look_at_store,
    "fetch": look_at_fetch,
    "packed": look_at_fetch,
    "plan": look_at_fetch,
    "index": look_at_index,
}
