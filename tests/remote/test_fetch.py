"""Fetching: exact, resumable after every kind of interruption, and never a wrong file under the final name."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import (
    AlreadyExistsError,
    BusyError,
    DamagedError,
    DumpNotFoundError,
    IncompleteDumpError,
    NetdumpError,
    RemoteError,
    StorageFaultError,
    UnreachableError,
)
from netdump.index.packing import unpack_pieces
from netdump.pki import client_context
from netdump.pki.endpoint import Endpoint
from netdump.remote import fetch as fetch_module
from netdump.remote.api import ApiClient
from netdump.remote.fetch import Fetched, Transfer, default_name, fetch
from netdump.remote.patience import Patience
from netdump.remote.staging import SUFFIX, Staging
from netdump.store.files import LocalFile
from netdump.store.restore import Restoration
from netdump.testing.fault_proxy import FaultProxy, Faults
from tests.index.stored import Sample
from tests.index.test_record import FULL
from tests.remote.fake_api import FakeApi, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.index.catalog import LocalCatalog
    from netdump.index.reading import Catalog, FetchPlan
    from netdump.store.store import Store

QUICK = Patience(tries=4, first_s=0.001, longest_s=0.001)


class Counting:
    """Progress that can be looked at."""

    def __init__(self) -> None:
        self.total = self.done = self.present = 0
        self.stages: list[str] = []
        self._guard = threading.Lock()

    def begin(self, total: int, done: int, what: str = "fetching") -> None:
        self.total, self.done, self.present = total, done, done
        self.stages.append(what)

    def advance(self, count: int) -> None:
        with self._guard:
            self.done += count


class Flaky:
    """A catalog whose segments come as `read` says; the rest is that of another."""

    def __init__(self, catalog: Catalog, read: Callable[[Iterator[bytes], str, int], Iterator[bytes]]) -> None:
        self._catalog = catalog
        self._read = read
        self.read: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        self.read[name] += 1
        return self._read(self._catalog.read_segment(dump_id, name, offset), name, offset)


def get(catalog: Any, dump_id: str, target: Path, progress: Counting | None = None, **options: Any) -> Fetched:
    options = {"patience": QUICK, "transfer": Transfer.PLAIN, **options}
    return fetch(catalog, catalog.show(dump_id), target, progress or Counting(), **options)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "core"


def left(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent))


@pytest.mark.parametrize("jobs", [1, 3, 16])
@pytest.mark.parametrize("pages", [1, 8, 64, 205])
def test_what_comes_back_is_what_was_stored(
    store: Store, catalog: LocalCatalog, target: Path, pages: int, jobs: int
) -> None:
    sample = Sample(pages=pages)
    dump_id = sample.store(store)
    progress = Counting()
    fetched = get(catalog, dump_id, target, progress, jobs=jobs)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]
    assert (fetched.path, fetched.bytes, fetched.plan.root) == (target, len(sample.image), sample.root().hex())
    assert fetched.transferred == progress.total == progress.done == sum(s.bytes for s in fetched.plan.segments)


def test_zeros_are_holes(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=640)
    get(catalog, sample.store(store), target)
    assert target.read_bytes() == sample.image
    assert target.stat().st_blocks * 512 < len(sample.image)


def test_over_the_network(api: FakeApi, store: Store, target: Path) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    api.faults.extend([Fault(cut=300), Fault(status=503), Fault(no_range=True), Fault(shift=7), Fault(cut=0)])
    bundle = api.bundle()
    with ApiClient(bundle.api, client_context(bundle), connections=4) as client:
        get(client, dump_id, target)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]


@pytest.mark.parametrize("cut", [0, 5, 300, None])
def test_packed_on_the_way(api: FakeApi, store: Store, target: Path, cut: int | None) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    api.faults.extend([Fault(cut=cut)] if cut is not None else [])
    bundle = api.bundle()
    with ApiClient(bundle.api, client_context(bundle), connections=2) as client:
        fetched = get(client, dump_id, target, jobs=2, transfer=Transfer.PACKED)
    assert target.read_bytes() == sample.image
    assert 0 < fetched.transferred < sum(segment.bytes for segment in fetched.plan.segments)
    assert all(request.endswith("&always=1") for request in api.requests if "/segments/" in request)


def test_what_came_plain_goes_on_packed_and_back(api: FakeApi, store: Store, target: Path) -> None:
    sample = Sample(pages=64)
    dump_id = sample.store(store)
    bundle = api.bundle()
    hasty = Patience(tries=1, first_s=0.001, longest_s=0.001)
    ways = cycle([Transfer.PLAIN, Transfer.PACKED])
    cuts = 0
    with ApiClient(bundle.api, client_context(bundle)) as client:
        while not target.exists():
            api.faults.clear()
            api.faults.append(Fault(cut=150))
            try:
                get(client, dump_id, target, jobs=1, transfer=next(ways), patience=hasty)
            except UnreachableError:
                cuts += 1
                assert cuts < 100
    assert target.read_bytes() == sample.image
    asked = {("/packed?" in request, "from=0&" in request) for request in api.requests if "/segments/" in request}
    assert cuts > 2
    assert (True, False) in asked  # packed, from the middle of what came plain


def test_by_default_the_collector_says_whether_it_packs(api: FakeApi, store: Store, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    bundle = api.bundle()
    with ApiClient(bundle.api, client_context(bundle)) as client:
        fetch(client, client.show(dump_id), target, Counting(), jobs=1)
    assert target.read_bytes() == sample.image
    asked = [request for request in api.requests if "/segments/" in request]
    assert asked
    assert all("/packed?from=0&always=0" in request for request in asked)


def test_a_packed_stream_that_is_none_is_refused(store: Store, catalog: LocalCatalog, target: Path) -> None:
    class Hostile(Flaky):
        def read_packed(self, dump_id: str, name: str, offset: int, *, always: bool) -> Iterator[tuple[bytes, int]]:
            return unpack_pieces(io.BytesIO(b"\xff" * 100).read)

    with pytest.raises(RemoteError, match="no collector sends that"):
        get(Hostile(catalog, lambda pieces, *_: pieces), Sample().store(store), target, transfer=Transfer.PACKED)
    assert not target.exists()


def test_damage_on_the_way_is_fetched_again(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        data = bytearray(b"".join(pieces))
        if flaky.read[name] == 1:
            data[200] ^= 1
        yield bytes(data)

    flaky = Flaky(catalog, read)
    progress = Counting()
    get(flaky, dump_id, target, progress)
    assert target.read_bytes() == sample.image
    assert set(flaky.read.values()) == {2}
    assert progress.done == progress.total


@pytest.mark.parametrize("position", [0, 30, 100, 300, -100, -1])
def test_damage_that_stays_is_told_and_leaves_no_file(
    store: Store, catalog: LocalCatalog, target: Path, position: int
) -> None:
    dump_id = Sample().store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        data = bytearray(b"".join(pieces))
        data[position] ^= 1
        yield bytes(data)

    with pytest.raises(DamagedError, match="netdump verify"):
        get(Flaky(catalog, read), dump_id, target)
    assert left(target) in ([], [f"core{SUFFIX}"])


def test_a_sound_segment_must_be_the_one_of_the_plan(store: Store, catalog: LocalCatalog, target: Path) -> None:
    plan = catalog.plan(Sample().store(store))
    wrong = plan.segments[1]._replace(sha256="0" * 64)

    class Confused(Flaky):
        def plan(self, dump_id: str) -> FetchPlan:
            return plan._replace(segments=(plan.segments[0], wrong, *plan.segments[2:]))

    with pytest.raises(DamagedError, match="not the segment of the plan"):
        get(Confused(catalog, lambda pieces, name, offset: pieces), plan.id, target)


def test_segments_of_another_dump_are_not_taken(store: Store, catalog: LocalCatalog, target: Path) -> None:
    one, two = Sample(number=1).store(store), Sample(number=2).store(store)

    class Confused(Flaky):
        def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
            return catalog.read_segment(two, name, offset)

    with pytest.raises(DamagedError):
        get(Confused(catalog, lambda pieces, name, offset: pieces), one, target)
    assert not target.exists()


def test_the_plan_must_be_of_the_dump_that_was_asked_for(store: Store, catalog: LocalCatalog, target: Path) -> None:
    """Sound as it may be, another dump must not get this one's name."""
    one, two = Sample(number=1).store(store), Sample(number=2).store(store)

    class Confused(Flaky):
        def plan(self, dump_id: str) -> FetchPlan:
            return catalog.plan(two)

    with pytest.raises(RemoteError, match=f"asked for dump {one} and names the segments of {two}"):
        get(Confused(catalog, lambda pieces, name, offset: pieces), one, target)
    assert not target.exists()


def test_another_run_goes_on_with_what_is_there(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    names = [segment.name for segment in catalog.plan(dump_id).segments]

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if name not in names[:5]:
            raise UnreachableError("cut")
        data = b"".join(pieces)
        if name != names[4]:
            yield data
        else:
            if not offset:
                yield data[:100]
            raise UnreachableError("cut")

    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), dump_id, target, jobs=1)
    assert left(target) == [f"core{SUFFIX}"]
    progress = Counting()
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    fetched = get(again, dump_id, target, progress)
    assert target.read_bytes() == sample.image
    assert set(again.read) == set(names[4:])
    assert fetched.transferred == progress.total - progress.present
    assert progress.present == sum(segment.bytes for segment in fetched.plan.segments[:4]) + 100


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "zeros", "other"])
def test_corrupted_staging_is_noticed_and_fetched_again(
    store: Store, catalog: LocalCatalog, target: Path, damage: str
) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    plan = catalog.plan(dump_id)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for segment in plan.segments:
        (folder / segment.name).write_bytes(b"".join(catalog.read_segment(dump_id, segment.name, 0)))
    victim = folder / plan.segments[3].name
    data = victim.read_bytes()
    victim.write_bytes(
        {
            "flip": data[:150] + bytes([data[150] ^ 4]) + data[151:],
            "cut": data[:150],
            "grow": data + b"x",
            "zeros": data[:150] + bytes(len(data) - 150),
            "other": (folder / plan.segments[4].name).read_bytes(),
        }[damage]
    )
    (folder / "image.partial").write_bytes(b"an image that was not finished")
    counting = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(counting, dump_id, target)
    assert target.read_bytes() == sample.image
    assert set(counting.read) == {victim.name}
    assert left(target) == ["core"]


def cut_at_the_last(
    store: Store, catalog: LocalCatalog, target: Path, sample: Sample, chunks: int | None = None
) -> FetchPlan:
    """A fetch that ends with all but the last segment in the image."""
    plan = catalog.plan(sample.store(store, chunks))

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if name == plan.segments[-1].name:
            raise UnreachableError("cut")
        return pieces

    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), plan.id, target, jobs=1)
    return plan


def test_what_is_in_the_image_lies_nowhere_else(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    assert {path.name for path in folder.iterdir() if path.stat().st_size} == {
        "image.partial",
        *(f"{segment.name}.skeleton" for segment in plan.segments[:-1]),
    }
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    progress = Counting()
    fetched = get(again, plan.id, target, progress)
    assert target.read_bytes() == sample.image
    assert set(again.read) == {plan.segments[-1].name}
    assert fetched.transferred == plan.segments[-1].bytes
    assert progress.done == progress.total
    assert left(target) == ["core"]


@pytest.mark.parametrize("damage", ["flip", "no-image", "rubbish", "cut", "empty", "other", "table"])
def test_what_was_left_is_not_believed(store: Store, catalog: LocalCatalog, target: Path, damage: str) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    image, victim = folder / "image.partial", plan.segments[3]
    skeleton = folder / f"{victim.name}.skeleton"
    table = next(each for each in catalog.run_tables(plan.id) if each.offset >= victim.start)
    wrong = {victim.name}
    match damage:
        case "flip":
            data = bytearray(image.read_bytes())
            at = next(at for at in range(victim.start, victim.end) if data[at])
            data[at] ^= 1
            image.write_bytes(data)
        case "no-image":
            image.unlink()
            wrong = {segment.name for segment in plan.segments}
        case "rubbish":
            image.write_bytes(b"rubbish!" * (len(sample.image) // 8 + 1000))
            wrong = {segment.name for segment in plan.segments}
        case "cut":
            skeleton.write_bytes(skeleton.read_bytes()[:-1])
        case "empty":
            skeleton.write_bytes(b"")
        case "other":
            skeleton.write_bytes((folder / f"{plan.segments[4].name}.skeleton").read_bytes())
        case "table":
            raw = skeleton.read_bytes()
            at = raw.index(table.table)
            skeleton.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    progress = Counting()
    get(again, plan.id, target, progress, jobs=3)
    assert target.read_bytes() == sample.image
    assert {*again.read} - {plan.segments[-1].name} <= wrong
    assert victim.name in again.read
    assert progress.done == progress.total
    assert left(target) == ["core"]


def test_a_file_that_has_its_final_name_is_never_written_to(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    skeleton = next(folder.glob("*.skeleton"))
    get(catalog, plan.id, target)
    # Killed between link(2) and unlink(2).
    folder.mkdir()
    skeleton.touch()
    os.link(target, folder / "image")
    flaky = Flaky(catalog, lambda pieces, name, offset: pieces if name < plan.segments[5].name else iter(()))
    with pytest.raises(DamagedError):
        get(flaky, plan.id, target, jobs=1, force=True)
    assert target.read_bytes() == sample.image
    get(catalog, plan.id, target, force=True)
    assert target.read_bytes() == sample.image


def test_nobody_takes_up_an_image_that_gets_its_final_name(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    place = Staging.place

    def busy(staging: Staging, *arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(BusyError):
            get(catalog, dump_id, target)
        place(staging, *arguments, **options)

    monkeypatch.setattr(Staging, "place", busy)
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]


def test_a_finished_image_that_nobody_takes_up_makes_room(store: Store, catalog: LocalCatalog, target: Path) -> None:
    dump_id = Sample().store(store)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for name in ("image", "image.incomplete"):
        (folder / name).touch()

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        assert {path.name for path in folder.glob("image*")} == {"image.partial", "image.lock"}
        return pieces

    get(Flaky(catalog, read), dump_id, target, jobs=1)


def test_where_holes_are_not_told_each_segment_gets_a_file(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    monkeypatch.setattr(LocalFile, "next_data", lambda file, position: position)
    cut_at_the_last(store, catalog, target, sample)
    came = {path.name for path in folder.iterdir() if path.stat().st_size}
    assert came == {segment.name for segment in plan.segments[:-1]}
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(again, plan.id, target)
    assert set(again.read) == {plan.segments[-1].name}
    assert target.read_bytes() == sample.image


def test_staging_of_another_dump_is_no_hindrance(store: Store, catalog: LocalCatalog, target: Path) -> None:
    other, sample = Sample(number=1), Sample(number=2)
    other_id, dump_id = other.store(store), sample.store(store)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for segment in catalog.plan(other_id).segments:
        (folder / segment.name).write_bytes(b"".join(catalog.read_segment(other_id, segment.name, 0)))
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image


def test_an_interrupted_dump_is_fetched_as_far_as_it_came(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store, chunks=5)
    fetched = get(catalog, dump_id, target)
    assert left(target) == ["core.incomplete"]
    assert fetched.path == target.with_name("core.incomplete")
    assert fetched.path.read_bytes() == sample.image[: 5 * 8 * 4096]
    assert (fetched.bytes, fetched.plan.complete) == (5 * 8 * 4096, False)
    # More has come: the older file makes way for the longer one.
    sample.store(store, chunks=7)
    assert get(catalog, dump_id, target).path.read_bytes() == sample.image[: 7 * 8 * 4096]
    sample.store(store)
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image


def test_nothing_comes_again_of_a_dump_that_is_complete_now(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    sample.store(store, chunks=20)
    plan = cut_at_the_last(store, catalog, target, sample, chunks=20)
    sample.store(store)
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(again, plan.id, target)
    assert target.read_bytes() == sample.image
    assert not {*again.read} & {segment.name for segment in plan.segments[:-1]}
    assert left(target) == ["core"]


def test_nothing_has_come_yet(store: Store, catalog: LocalCatalog, target: Path) -> None:
    with pytest.raises(IncompleteDumpError, match="nothing"):
        get(catalog, Sample().store(store, chunks=0), target)
    assert left(target) == []


def test_a_file_that_is_there_is_kept_unless_forced(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    target.write_bytes(b"mine")
    with pytest.raises(AlreadyExistsError):
        get(catalog, dump_id, target)
    assert (target.read_bytes(), left(target)) == (b"mine", ["core"])
    get(catalog, dump_id, target, force=True)
    assert target.read_bytes() == sample.image


def test_space_is_looked_at_first(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    totals = catalog.show(dump_id).totals
    assert totals is not None
    needed = totals["data"] + totals["alias"] + sum(segment.bytes for segment in catalog.plan(dump_id).segments)
    monkeypatch.setattr("netdump.remote.staging.Staging.free_bytes", lambda self: needed - 1)
    counting = Flaky(catalog, lambda pieces, name, offset: pieces)
    with pytest.raises(StorageFaultError, match=f"needs {needed:,} bytes"):
        get(counting, dump_id, target)
    assert not counting.read
    assert left(target) == []
    monkeypatch.setattr("netdump.remote.staging.Staging.free_bytes", lambda self: needed)
    get(counting, dump_id, target)


@pytest.mark.parametrize("call", range(1, 35, 3))
def test_a_disk_that_fills_up_ends_it_and_room_lets_it_go_on(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    sample = Sample(pages=64, chunk_pages=8, segment_chunks=1)
    dump_id = sample.store(store)
    calls = 0

    def failing(plain: Callable[..., int]) -> Callable[..., int]:
        def operation(*arguments: Any) -> int:
            nonlocal calls
            calls += 1
            if calls >= call:
                raise OSError(28, "No space left on device")
            return plain(*arguments)

        return operation

    with monkeypatch.context() as patch:
        for name in ("write", "pwrite"):
            patch.setattr(os, name, failing(getattr(os, name)))
        with pytest.raises(StorageFaultError):
            get(catalog, dump_id, target, jobs=1)
    assert left(target) == [f"core{SUFFIX}"]
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image


@pytest.mark.parametrize(("deleted", "expected"), [(True, DumpNotFoundError), (False, DamagedError)])
def test_a_segment_that_the_collector_no_longer_has(
    store: Store, catalog: LocalCatalog, target: Path, expected: type[NetdumpError], *, deleted: bool
) -> None:
    dump_id = Sample().store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if deleted:
            catalog.delete(dump_id)
        else:
            (store.root / dump_id / "segments" / name).unlink()
        return pieces

    with pytest.raises(expected):
        get(Flaky(catalog, read), dump_id, target, jobs=1)
    assert left(target) in ([], [f"core{SUFFIX}"])


def test_two_runs_do_not_share_a_target(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    inside: list[NetdumpError] = []

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if not inside:
            with pytest.raises(BusyError) as caught:
                get(catalog, dump_id, target)
            inside.append(caught.value)
        return pieces

    get(Flaky(catalog, read), dump_id, target, jobs=1)
    assert len(inside) == 1
    assert target.read_bytes() == sample.image


def test_patience_starts_anew_with_each_bit_of_progress(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=8)
    dump_id = sample.store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        yield b"".join(pieces)[:20]
        raise UnreachableError("cut")

    flaky = Flaky(catalog, read)
    get(flaky, dump_id, target)
    assert target.read_bytes() == sample.image
    assert sum(flaky.read.values()) > QUICK.tries


def test_no_progress_ends_it_with_the_last_error(store: Store, catalog: LocalCatalog, target: Path) -> None:
    dump_id = Sample(pages=8).store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        raise UnreachableError(f"try {flaky.read[name]}")

    flaky = Flaky(catalog, read)
    with pytest.raises(UnreachableError, match=f"try {QUICK.tries}"):
        get(flaky, dump_id, target)


def test_a_stream_that_ends_early_is_a_cut(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=8)
    flaky = Flaky(catalog, lambda pieces, name, offset: iter((next(pieces)[:20],)))
    get(flaky, sample.store(store), target)
    assert target.read_bytes() == sample.image
    assert sum(flaky.read.values()) > QUICK.tries


@pytest.mark.parametrize("transfer", [Transfer.PLAIN, Transfer.PACKED])
def test_a_segment_that_is_shorter_at_the_collector_is_damaged(
    api: FakeApi, store: Store, catalog: LocalCatalog, target: Path, transfer: Transfer
) -> None:
    dump_id = Sample(pages=8).store(store)
    (segment, *_) = catalog.plan(dump_id).segments
    os.truncate(store.root / dump_id / "segments" / segment.name, segment.bytes - 1)
    bundle = api.bundle()
    with ApiClient(bundle.api, client_context(bundle)) as client, pytest.raises(DamagedError, match="netdump verify"):
        get(client, dump_id, target, transfer=transfer)
    assert sum(f"/{segment.name}" in request for request in api.requests) <= 3


@pytest.mark.parametrize("trouble", [RemoteError("no collector sends that"), UnreachableError("cut")])
def test_what_goes_wrong_behind_the_last_byte_does_no_harm(
    store: Store, catalog: LocalCatalog, target: Path, trouble: NetdumpError
) -> None:
    sample = Sample(pages=8)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        yield from pieces
        raise trouble

    flaky = Flaky(catalog, read)
    get(flaky, sample.store(store), target, patience=Patience(tries=1, first_s=0.001, longest_s=0.001))
    assert target.read_bytes() == sample.image
    assert set(flaky.read.values()) == {1}


def test_a_mistake_in_a_thread_is_not_lost(store: Store, catalog: LocalCatalog, target: Path) -> None:
    dump_id = Sample().store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        get(Flaky(catalog, read), dump_id, target)


def test_an_interrupt_while_threads_are_started_is_no_mistake(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        get(catalog, Sample().store(store), target)


SCRIPT = """
import signal
import sys
from pathlib import Path
from netdump.pki import Bundle
from netdump.remote.api import ApiClient
from netdump.remote.fetch import Transfer, fetch

signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest in the background of a shell has it ignored

class Quiet:
    def begin(self, total, done): pass
    def advance(self, count): pass

with ApiClient.of_bundle(Bundle.load(Path(sys.argv[1]))) as client:
    fetch(client, client.show(sys.argv[2]), Path(sys.argv[3]), Quiet(), jobs=2, transfer=Transfer.PLAIN)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(api: FakeApi, store: Store, target: Path, number: signal.Signals) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    bundle = target.parent.parent / "client.toml"
    bundle.write_text(api.bundle().text())
    bundle.chmod(0o600)
    api.faults.extend([Fault()] * 5 + [Fault(stall=150), Fault(stall=150)])
    command = [sys.executable, "-c", SCRIPT, str(bundle), dump_id, str(target)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert api.stalled.wait(120)
    process.send_signal(number)
    assert process.wait(120) != 0
    assert left(target) == [f"core{SUFFIX}"]
    staged = sum(path.stat().st_size for path in target.with_name(f"core{SUFFIX}").glob("*.seg*"))
    assert staged > 0
    api.faults.clear()
    before = api.sent
    subprocess.run(command, check=True)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]
    plan = api.catalog.plan(dump_id)
    assert api.sent - before == sum(segment.bytes for segment in plan.segments) - staged


def test_threads_that_hang_do_not_write_into_a_closed_file(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "_LEAVE_SECONDS", 0.05)
    sample = Sample()
    dump_id = sample.store(store)
    let_go = threading.Event()
    closed: list[Restoration] = []
    monkeypatch.setattr(Restoration, "close", closed.append)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if threading.current_thread().name == "fetch-1":
            raise UnreachableError("cut")
        let_go.wait(10)
        return pieces

    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), dump_id, target, jobs=2)
    assert closed == []
    let_go.set()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web1.example", "vmcore-web1.example-0123456789ab.elf"),
        ("../../x y", "vmcore-x_y-0123456789ab.elf"),
        ("\x1b[31m", "vmcore-31m-0123456789ab.elf"),
        ("", "vmcore-unknown-0123456789ab.elf"),
        ("..", "vmcore-unknown-0123456789ab.elf"),
        ("h" * 300, f"vmcore-{'h' * 64}-0123456789ab.elf"),
    ],
)
def test_default_names_are_harmless(host: str, expected: str) -> None:
    assert default_name(replace(FULL, host=host)) == expected


def test_a_network_that_cuts_and_damages(api: FakeApi, store: Store, target: Path) -> None:
    sample = Sample(pages=640)
    dump_id = sample.store(store)
    plan = [Faults(), Faults(cut_down=9000), Faults(flip_down=4000), Faults(close_down=6000), Faults(flip_down=3500)]
    with FaultProxy(("127.0.0.1", api.endpoint.port), plan, seed=7) as proxy:
        bundle = replace(api.bundle(), api=Endpoint("localhost", proxy.address[1]))
        with ApiClient(bundle.api, client_context(bundle), connections=4) as client:
            get(client, dump_id, target, jobs=4)
    assert target.read_bytes() == sample.image
    assert len(proxy.passages) > len(plan) - 1
