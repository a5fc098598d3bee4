"""Dumps over HTTPS: lists, facts, segments and their ranges, verification, deletion, and names that are none."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BusyError
from netdump.index.catalog import LocalCatalog
from netdump.index.reading import pack_plan
from netdump.pki import check_receipt
from netdump.server.https import ApiService
from netdump.store.intake import verify_chunk
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import PATIENCE_S, Desk, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from netdump.index.reading import FetchPlan

DUMP = SampleDump(seed=91, image_bytes=900_000)
ID = DUMP.origin.id


@pytest.fixture
def stored(folder: Path) -> Path:
    """A folder with one complete dump in it."""
    store(folder, DUMP)
    return folder


def store(folder: Path, dump: SampleDump, upto: int | None = None) -> None:
    """Put a dump into the store, all of it or its first chunks."""
    with Store(folder / "dumps").open_writer(dump.origin) as writer:
        writer.put_headline(dump.headline)
        for place, chunk in enumerate(dump.chunks[:upto]):
            writer.append(chunk, len(verify_chunk(chunk)))
            if place % 20 == 19:
                writer.publish()
        writer.publish()
        if upto is None:
            writer.finish(dump.root)


def path(rest: str = "", dump_id: str = ID) -> str:
    return f"/v1/dumps/{dump_id}{rest}"


def test_lists(folder: Path, ann: Papers) -> None:
    several = [SampleDump(seed=100 + n, image_bytes=5_000, host=("web1", "web2")[n % 2]) for n in range(5)]
    for number, dump in enumerate(several):
        store(folder, dump, upto=None if number < 4 else 0)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        everything = [each["id"] for each in desk.get("/v1/dumps")["dumps"]]
        assert sorted(everything) == sorted(dump.origin.id for dump in several)
        assert [each["id"] for each in desk.get("/v1/dumps?limit=2")["dumps"]] == everything[:2]
        page = desk.get(f"/v1/dumps?limit=2&before={everything[1]}")
        assert [each["id"] for each in page["dumps"]] == everything[2:4]
        assert {each["host"] for each in desk.get("/v1/dumps?host=web2")["dumps"]} == {"web2"}
        assert len(desk.get("/v1/dumps?state=complete")["dumps"]) == 4
        assert [each["state"] for each in desk.get("/v1/dumps?state=interrupted")["dumps"]] == ["interrupted"]
        assert desk.get("/v1/dumps?since=2100-01-01T00:00:00Z") == {"dumps": []}
        assert desk.get("/v1/dumps?drill=1") == {"dumps": []}
        assert len(desk.get("/v1/dumps?drill=0")["dumps"]) == 5
        assert len(desk.get("/v1/dumps?host=&state=&drill=&before=")["dumps"]) == 5


NONSENSE = [
    "limit=0",
    "limit=1001",
    "limit=-1",
    "limit=x",
    "limit=٣",
    "limit=99999999999999999999",
    "limit=0000000019999999",
    "limit=000000001" + "9" * 5000,
    "state=gone",
    "before=abc",
    "before=../../etc",
    "since=yesterday",
    "drill=yes",
    "hots=web1",
]


def test_lists_that_make_no_sense(folder: Path, ann: Papers) -> None:
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        for query in NONSENSE:
            answer = desk.error("GET", f"/v1/dumps?{quote(query, safe='=&.')}")
            assert answer == (400, "bad-request"), query


def test_facts_of_a_dump(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        rig.events.wait("dump-restored")
        shown = desk.get(path())
        assert (shown["id"], shown["host"], shown["state"]) == (ID, "web1", "complete")
        assert desk.get(path(dump_id=ID[:6])) == shown
        log = desk.ask("GET", path("/log"))
        assert log.headers["content-type"] == "text/plain; charset=utf-8"
        assert log.data == b"[    0.000000] Kernel panic\n"
        assert desk.ask("GET", path("/headline")).data == DUMP.headline
        plan = desk.get(path("/plan"))
        assert (plan["id"], plan["complete"], plan["root"]) == (ID, True, DUMP.root.hex())
        assert plan["segments"][0]["start"] == 0
        assert plan["segments"][-1]["end"] == plan["offset"] == plan["image_bytes"] == 900_000
        assert set(plan["segments"][0]) == {"name", "start", "end", "chunks", "bytes", "sha256"}
        receipt = desk.ask("GET", path("/receipt")).data  # stored without one, and signed for since
        assert check_receipt(receipt, desk.ask("GET", "/v1/ca").data)["id"] == ID
        for event in ("log-read", "headline-read", "fetch-planned"):
            assert rig.events.wait(event)["name"] == "ann"


def test_a_plan_is_packed_beside_the_loop(stored: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a vast dump that takes seconds, in which no host would be heard."""
    threads = list[threading.Thread]()

    def spy(plan: FetchPlan) -> bytes:
        threads.append(threading.current_thread())
        return pack_plan(plan)

    monkeypatch.setattr("netdump.server.dumps.pack_plan", spy)
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        assert desk.ask("GET", path("/plan")).headers["content-type"] == "application/json"
        loop_thread = rig.call(threading.current_thread)
    assert threads
    assert loop_thread not in threads


def test_a_receipt(folder: Path, web1: Papers, ann: Papers) -> None:
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        with Host(rig, web1) as host:
            sent = host.send_all(DUMP).document
        answer = desk.ask("GET", path("/receipt"))
        assert answer.headers["content-type"] == "application/json"
        assert answer.data == sent
        assert check_receipt(answer.data, desk.ask("GET", "/v1/ca").data)["id"] == ID


def test_an_interrupted_dump_can_be_read_as_far_as_it_came(folder: Path, ann: Papers) -> None:
    store(folder, DUMP, upto=40)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        assert desk.error("GET", path("/receipt")) == (404, "not-found")
        plan = desk.get(path("/plan"))
        assert (plan["complete"], plan["root"], plan["offset"]) == (False, None, DUMP.chunks[40].offset)
        assert len(plan["segments"]) == 2
        assert desk.ask("GET", path(f"/segments/{plan['segments'][0]['name']}")).status == 200


# Segments


def test_segments_are_the_files(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        segments = desk.get(path("/plan"))["segments"]
        assert len(segments) > 1
        for segment in segments:
            content = (stored / "dumps" / ID / "segments" / segment["name"]).read_bytes()
            answer = desk.ask("GET", path(f"/segments/{segment['name']}", ID[:8]))
            assert answer.status == 200
            assert answer.data == content
            assert answer.headers["content-length"] == str(len(content)) == str(segment["bytes"])
            assert answer.headers["accept-ranges"] == "bytes"
            head = desk.ask("HEAD", path(f"/segments/{segment['name']}"))
            assert (head.status, head.headers["content-length"], head.data) == (200, str(len(content)), b"")


def test_ranges_of_a_segment(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        name = desk.get(path("/plan"))["segments"][0]["name"]
        content = (stored / "dumps" / ID / "segments" / name).read_bytes()
        size = len(content)

        @given(st.integers(0, size + 10), st.integers(0, size + 10) | st.none())
        @settings(derandomize=True, deadline=None, max_examples=25)
        def check(first: int, last: int | None) -> None:
            header = {"Range": f"bytes={first}-{'' if last is None else last}"}
            answer = desk.ask("GET", path(f"/segments/{name}"), headers=header)
            if last is not None and last < first:
                assert (answer.status, answer.data) == (200, content)
            elif first >= size:
                assert (answer.status, answer.data) == (416, b"")
                assert answer.headers["content-range"] == f"bytes */{size}"
            else:
                expected = content[first : None if last is None else last + 1]
                assert (answer.status, answer.data) == (206, expected)
                assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{size}"
                assert answer.headers["content-length"] == str(len(expected))

        check()
        conditional = {"Range": "bytes=5-", "If-Range": '"anything"'}
        assert desk.ask("GET", path(f"/segments/{name}"), headers=conditional).data == content


def test_a_large_segment_comes_in_pieces(folder: Path, ann: Papers) -> None:
    place = folder / "dumps" / ID / "segments"
    place.mkdir(parents=True)
    content = bytes(range(256)) * 4096 * 5 + b"end"
    (place / f"{0:016x}-{9:016x}.seg").write_bytes(content)
    with Rig(folder) as rig, Desk(rig, ann) as desk:
        assert desk.ask("GET", path(f"/segments/{0:016x}-{9:016x}.seg")).data == content
        gc.collect()  # an open file would be warned of, and a warning is an error


NAMES = [
    "..",
    "%2e%2e",
    "..%2f..%2forigin.json",
    "origin.json",
    "manifest.json",
    "lock",
    f"{0:016x}-{9:016x}.seg.partial",
    f"{0:016x}.seg.partial",
    f"{0:016X}-{0xAB:016X}.seg",
    f"{0:016x}-{9:016x}.seg%00",
    f"{0:016x}-{9:016x}.seg%0a",
    f"x{0:016x}-{9:016x}.seg",
    f"{0:016x}-{9:016x}.seg",
]


def test_names_that_are_no_segments(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        for name in NAMES:
            answer = desk.error("GET", path(f"/segments/{name}"))
            assert answer in {(404, "not-found"), (404, "bad-request")}, name


IDS = ["0" * 32, "zz", "..", "%2e%2e", ".trash", "%00", "a" * 5000, "A", "*", "-", "%F0%9F%92%A9", ID + "0", ID[:3]]


def test_ids_that_are_none(stored: Path, olga: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, olga) as desk:
        for dump_id in IDS:
            for rest in ("", "/log", "/plan", f"/segments/{0:016x}-{9:016x}.seg"):
                assert desk.error("GET", path(rest, dump_id))[0] in {400, 404}, (dump_id, rest)
            assert desk.error("DELETE", path("", dump_id))[0] in {400, 404}, dump_id
    assert Store(stored / "dumps").ids() == [ID]


def test_a_link_is_not_followed(stored: Path, ann: Papers) -> None:
    place = stored / "dumps" / ID / "segments"
    (place / f"{0:016x}-{9:016x}.seg").symlink_to(stored / "pki" / "ca.key")
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        assert desk.error("GET", path(f"/segments/{0:016x}-{9:016x}.seg")) == (503, "storage")


def test_two_dumps_with_the_same_beginning(stored: Path, ann: Papers) -> None:
    (stored / "dumps" / (ID[:8] + "0" * 24)).mkdir()
    (stored / "dumps" / (ID[:8] + "0" * 24) / "origin.json").write_bytes(b"x")
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        assert desk.error("GET", path(dump_id=ID[:8])) == (409, "ambiguous-id")


# Verification and deletion


def test_verification(stored: Path, ann: Papers) -> None:
    with Rig(stored) as rig, Desk(rig, ann) as desk:
        rig.events.wait("dump-restored")
        report = json.loads(desk.ask("POST", path("/verify")).data)
        assert report["ok"]
        assert (report["id"], report["image_bytes"], report["findings"]) == (ID, 900_000, [])
        victim = next((stored / "dumps" / ID / "segments").iterdir())
        content = bytearray(victim.read_bytes())
        content[500] ^= 1
        victim.write_bytes(content)
        report = json.loads(desk.ask("POST", path("/verify")).data)
        assert not report["ok"]
        assert report["findings"][0]["file"] == victim.name
        assert desk.get(path())["state"] == "damaged"
        assert rig.events.wait("verification")["name"] == "ann"


def test_one_verification_at_a_time_and_none_beyond_a_stop(
    stored: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    answers: list[tuple[int, str]] = []

    def slowly(_: LocalCatalog, _dump_id: str, progress: Callable[[int], None]) -> object:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        progress(5)
        raise AssertionError("it was told to stop")

    async def close(self: ApiService) -> None:
        go_on.set()  # behind the word to stop
        await close_really(self)

    close_really = ApiService.close
    monkeypatch.setattr(ApiService, "close", close)
    monkeypatch.setattr(LocalCatalog, "verify", slowly)
    with Rig(stored) as rig:
        first = Desk(rig, ann)
        thread = threading.Thread(target=lambda: answers.append(first.error("POST", path("/verify"))))
        thread.start()
        assert begun.wait(PATIENCE_S)
        with Desk(rig, ann) as second:
            assert second.error("POST", path("/verify")) == (409, "busy")
    thread.join(PATIENCE_S)
    first.pool.close()
    assert answers == [(409, "busy")]


def test_a_verification_ends_with_whoever_asked_for_it(
    stored: Path, ann: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = threading.Event(), threading.Event()

    def patiently(_: LocalCatalog, _dump_id: str, progress: Callable[[int], None]) -> object:
        begun.set()
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            try:
                progress(5)
            except BusyError:
                told.set()
                raise
            time.sleep(0.001)
        raise AssertionError("nobody has told")

    monkeypatch.setattr(LocalCatalog, "verify", patiently)
    with Rig(stored) as rig:
        desk = Desk(rig, ann)
        connection = desk.pool._get_conn()
        connection.request("POST", path("/verify"))
        assert begun.wait(PATIENCE_S)
        assert not told.is_set()
        connection.close()
        assert told.wait(PATIENCE_S)
        desk.pool.close()
        monkeypatch.undo()
        with Desk(rig, ann) as again:
            assert json.loads(again.ask("POST", path("/verify")).data)["ok"], "the place is free again"


def test_deletion(stored: Path, olga: Papers, web1: Papers) -> None:
    other = SampleDump(seed=92, image_bytes=50_000)
    with Rig(stored) as rig, Desk(rig, olga) as desk, Host(rig, web1) as host:
        rig.events.wait("dump-restored")
        host.resume(other)
        assert desk.error("DELETE", path(dump_id=other.origin.id)) == (409, "busy"), "it is arriving"
        assert desk.ask("DELETE", path(dump_id=ID[:10])).status == 200
        assert desk.error("GET", path()) == (404, "not-found")
        assert desk.error("DELETE", path()) == (404, "not-found")
        assert [each["id"] for each in desk.get("/v1/dumps")["dumps"]] == [other.origin.id]
        assert rig.events.wait("deletion", 2)["name"] == "olga"
    assert [each.name for each in (stored / "dumps").iterdir()] == [other.origin.id]
