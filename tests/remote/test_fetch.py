"""Fetching: exact, resumable after every kind of interruption, and never a wrong file under the final name."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
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
from netdump.remote.fetch import Transfer, default_name, fetch
from netdump.remote.formats import ELF, Compression, Format, Output
from netdump.remote.patience import Patience
from netdump.remote.staging import SKELETON_BYTES, SUFFIX
from netdump.store.files import LocalFile
from netdump.store.restore import Restoration
from netdump.testing.fault_proxy import FaultProxy, Faults
from tests.analyze.test_frames import DUMP
from tests.index.stored import Sample
from tests.index.test_record import FULL
from tests.remote.fake_api import FakeApi, Fault
from tests.remote.fetching import QUICK, Counting, Flaky, get, left
from tests.threadlimit import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.index.catalog import LocalCatalog
    from netdump.index.reading import FetchPlan
    from netdump.store.store import Store


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


def test_what_is_no_file_is_never_replaced(store: Store, catalog: LocalCatalog, target: Path) -> None:
    """An operator who wants to know how fast it is says -o /dev/null --force, as root."""
    os.mkfifo(target)
    counting = Flaky(catalog, lambda pieces, name, offset: pieces)
    with pytest.raises(AlreadyExistsError, match="is not a file, and is never replaced"):
        get(counting, Sample().store(store), target, force=True)
    assert not counting.read
    assert stat.S_ISFIFO(target.stat().st_mode)
    assert left(target) == ["core"]


def test_a_file_that_is_delivered_gets_no_name(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    target.write_bytes(b"mine")
    taken: list[bytes] = []
    fetched = get(catalog, sample.store(store), target, deliver=lambda path: taken.append(path.read_bytes()))
    assert (taken, fetched.bytes) == ([sample.image], len(sample.image))
    assert (target.read_bytes(), left(target)) == (b"mine", ["core"])


@pytest.mark.parametrize("chunks", [None, 5])
def test_what_could_not_be_delivered_is_not_fetched_again(
    store: Store, catalog: LocalCatalog, target: Path, chunks: int | None
) -> None:
    sample = Sample()
    dump_id = sample.store(store, chunks=chunks)

    def refuse(path: Path) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        get(catalog, dump_id, target, deliver=refuse)
    taken: list[bytes] = []
    again = get(catalog, dump_id, target, deliver=lambda path: taken.append(path.read_bytes()))
    assert again.transferred == 0
    assert taken == [sample.image[: again.bytes]]
    assert left(target) == []


@pytest.mark.parametrize("output", [ELF, Output(Format.KDUMP, Compression.NONE)])
@pytest.mark.parametrize("holes", ["told", "not told", "none"])
def test_space_is_looked_at_first(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, *, holes: str, output: Output
) -> None:
    """For the image and what lies beside it at a time: two segments, or all where an image cannot be taken up.

    Where files have no holes (vfat), all of the image takes room. A kdump holds the data once more, and no holes.
    """
    sample = DUMP
    dump_id = sample.store(store)
    totals = catalog.show(dump_id).totals
    assert totals is not None
    plan = catalog.plan(dump_id)
    segments = plan.segments
    sizes = sorted(segment.bytes for segment in segments)
    if holes == "told":
        needed = sum(sizes[-2:]) + SKELETON_BYTES * sum(segment.chunks for segment in segments)
    else:
        needed = sum(sizes)
        monkeypatch.setattr(LocalFile, "next_data", lambda file, position: position)
    if holes == "none":
        needed += plan.image_bytes
        monkeypatch.setattr("netdump.remote.staging._HOLE_BYTES", 0)
    else:
        needed += totals["data"] + totals["alias"]
    if output is not ELF:
        needed += totals["data"] + totals["alias"]
    monkeypatch.setattr("netdump.remote.staging.Staging.free_bytes", lambda self: needed - 1)
    counting = Flaky(catalog, lambda pieces, name, offset: pieces)
    with pytest.raises(StorageFaultError, match=f"needs {needed:,} bytes"):
        get(counting, dump_id, target, jobs=2, output=output)
    assert not counting.read
    assert left(target) == []
    monkeypatch.setattr("netdump.remote.staging.Staging.free_bytes", lambda self: needed)
    get(counting, dump_id, target, jobs=2, output=output)


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


@pytest.mark.parametrize(
    ("deleted", "expected", "told"),
    [(True, DumpNotFoundError, "was deleted while it was fetched"), (False, DamagedError, "has lost segment")],
)
def test_a_segment_that_the_collector_no_longer_has(
    store: Store, catalog: LocalCatalog, target: Path, expected: type[NetdumpError], told: str, *, deleted: bool
) -> None:
    dump_id = Sample().store(store)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if deleted:
            catalog.delete(dump_id)
        else:
            (store.root / dump_id / "segments" / name).unlink()
        return pieces

    with pytest.raises(expected, match=told):
        get(Flaky(catalog, read), dump_id, target, jobs=1)
    assert left(target) in ([], [f"core{SUFFIX}"])


def test_two_runs_do_not_share_a_target(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    inside: list[NetdumpError] = []

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if not inside:
            with pytest.raises(BusyError, match=r"another fetch is at work in .*core\.netdump-partial") as caught:
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


def test_an_error_in_one_thread_ends_the_pauses_of_others(store: Store, catalog: LocalCatalog, target: Path) -> None:
    both = threading.Barrier(2)

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if both.wait(20):
            raise UnreachableError("away")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        get(Flaky(catalog, read), Sample(pages=205).store(store), target, jobs=2, patience=Patience(9, 60.0, 60.0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch-")]


def test_the_pauses_between_tries_are_kept(store: Store, catalog: LocalCatalog, target: Path) -> None:
    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        raise UnreachableError("away")

    begun = time.monotonic()
    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), Sample().store(store), target, patience=Patience(3, 0.1, 0.2))
    assert time.monotonic() - begun >= 0.15


@pytest.mark.parametrize("most", [0, 1])
def test_as_many_threads_as_the_system_lets_be_started(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    limit_threads(monkeypatch, most)
    sample = Sample()
    get(catalog, sample.store(store), target)
    assert target.read_bytes() == sample.image


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
import stat
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
