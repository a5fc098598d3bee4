"""The API client over real TLS: every answer, every way in which a collector or a network can fail."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.errors import (
    AmbiguousIdError,
    BadRequestError,
    BusyError,
    DamagedError,
    DumpNotFoundError,
    ForbiddenError,
    ImpostorError,
    NameMismatchError,
    NetdumpError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from netdump.index.reading import Query
from netdump.index.record import State
from netdump.index.runstream import pack_stream
from netdump.pki import Authority, Role, client_context, init_authority
from netdump.pki.endpoint import Endpoint
from netdump.remote.api import ApiClient
from tests.index.stored import LOG, Sample
from tests.pki.papers import enrolled
from tests.remote.fake_api import FakeApi, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.index.catalog import LocalCatalog
    from netdump.pki import Bundle
    from netdump.store.store import Store


def client_of(bundle: Bundle, waits: list[float] | None = None) -> ApiClient:
    pauses = [] if waits is None else waits
    return ApiClient(bundle.api, client_context(bundle), connections=2, wait=pauses.append)


@pytest.fixture
def client(api: FakeApi) -> Iterator[ApiClient]:
    with client_of(api.bundle()) as opened:
        yield opened


def test_it_answers_like_the_catalog_of_the_folder(store: Store, catalog: LocalCatalog, client: ApiClient) -> None:
    whole = Sample(number=0xABCD, created=2000).store(store)
    half = Sample(number=0xBCDE, created=3000, host="web2", drill=True).store(store, chunks=5)

    def same(query: Query) -> list[str]:
        answer = client.list(query)
        assert answer == [replace(record, order_ns=0) for record in catalog.list(query)]
        return [record.id for record in answer]

    assert same(Query()) == [half, whole]
    assert same(Query(host="web1")) == [whole]
    assert same(Query(state=State.INTERRUPTED)) == [half]
    assert same(Query(since=3000)) == [half]
    assert same(Query(drill=True)) == [half]
    assert same(Query(drill=False)) == [whole]
    assert same(Query(before=half)) == [whole]
    assert same(Query(limit=1)) == [half]
    assert client.show("ABCD") == replace(catalog.show(whole), order_ns=0)
    assert client.log("abcd") == LOG
    assert client.receipt("abcd") is None
    assert client.plan(whole) == catalog.plan(whole)
    assert client.plan("bcde") == catalog.plan(half)
    assert client.verify(whole) == catalog.verify(whole)._replace(origin=None)
    client.delete(whole)
    assert same(Query()) == [half]


def test_a_receipt_comes_as_it_is(api: FakeApi, store: Store, client: ApiClient) -> None:
    dump_id = Sample().store(store)
    api.answers[f"/v1/dumps/{dump_id}/receipt"] = (200, b"the document\n")
    assert client.receipt(dump_id) == b"the document\n"


def test_segments_come_whole_and_from_any_offset(api: FakeApi, store: Store, client: ApiClient) -> None:
    plan = client.plan(Sample().store(store))
    name = plan.segments[0].name
    whole = b"".join(api.catalog.read_segment(plan.id, name, 0))

    def read(offset: int) -> bytes:
        return b"".join(client.read_segment(plan.id, name, offset))

    assert read(0) == whole
    assert read(100) == whole[100:]
    api.faults.append(Fault(no_range=True))
    assert read(100) == whole[100:]
    api.faults.append(Fault(shift=5))
    with pytest.raises(RemoteError, match="another part"):
        read(100)


def test_a_cut_is_told_after_what_had_come(api: FakeApi, store: Store, client: ApiClient) -> None:
    plan = client.plan(Sample().store(store))
    api.faults.append(Fault(cut=300))
    pieces = client.read_segment(plan.id, plan.segments[0].name, 0)
    got = bytearray()

    def read() -> None:
        for piece in pieces:
            got.extend(piece)

    with pytest.raises(UnreachableError):
        read()
    assert len(got) <= 300
    assert len(b"".join(client.read_segment(plan.id, plan.segments[0].name, 0))) == plan.segments[0].bytes


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "not-found", DumpNotFoundError),
        (409, "ambiguous-id", AmbiguousIdError),
        (403, "forbidden", ForbiddenError),
        (409, "busy", BusyError),
        (500, "internal", RemoteError),
        (403, "of-the-future", ForbiddenError),
        (400, "bad-request", BadRequestError),
    ],
)
def test_error_objects_become_the_errors_they_were(
    api: FakeApi, client: ApiClient, status: int, code: str, expected: type[NetdumpError]
) -> None:
    body = json.dumps({"error": {"code": code, "message": "why\x1b[31m, and what to do"}}).encode()
    api.answers["/v1/dumps/abcd/log"] = (status, body)
    with pytest.raises(expected, match=r"why\\x1b\[31m, and what to do"):
        client.log("abcd")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {"code": []}}', b"[" * 5000])
def test_error_pages_of_something_in_between(api: FakeApi, client: ApiClient, body: bytes) -> None:
    for status, expected in ((502, RemoteError), (404, BadRequestError), (403, ForbiddenError), (302, BadRequestError)):
        api.answers["/v1/dumps/abcd/log"] = (status, body)
        with pytest.raises(expected, match=f"status {status}"):
            client.log("abcd")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}", b'{"dumps": 5}', b'{"dumps": [5]}', b"[" * 100_000])
def test_answers_that_no_collector_gives(api: FakeApi, client: ApiClient, body: bytes) -> None:
    api.answers["/v1/dumps"] = (200, body)
    with pytest.raises(RemoteError):
        client.list(Query())


def test_an_answer_without_end_is_not_read(api: FakeApi, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.remote.api.HEADLINE_RAW_MAX", 1000)
    api.answers["/v1/dumps/abcd/log"] = (200, b"x" * 1000)
    assert client.log("abcd") == b"x" * 1000
    api.answers["/v1/dumps/abcd/log"] = (200, b"x" * 1001)
    with pytest.raises(RemoteError, match="more than 1000 bytes"):
        client.log("abcd")


@pytest.mark.parametrize("dump_id", ["", "../x", "xyz", "a" * 33, "a?b", "abcd/log"])
def test_what_is_no_id_is_not_asked_for(api: FakeApi, client: ApiClient, dump_id: str) -> None:
    with pytest.raises(DumpNotFoundError):
        client.show(dump_id)
    assert api.requests == []


def test_what_may_succeed_later_is_tried_again(api: FakeApi) -> None:
    waits: list[float] = []
    api.answers["/v1/dumps/abcd/log"] = (503, b"")
    with client_of(api.bundle(), waits) as client:
        with pytest.raises(RemoteError):
            client.log("abcd")
        assert len(api.requests) == 3
        assert len(waits) == 2
        api.answers["/v1/dumps/abcd/log"] = (404, b'{"error": {"code": "not-found", "message": "no"}}')
        with pytest.raises(DumpNotFoundError):
            client.log("abcd")
        assert len(api.requests) == 4


def test_what_changes_something_is_asked_once(api: FakeApi, client: ApiClient) -> None:
    api.answers["/v1/dumps/abcd"] = (503, b"")
    with pytest.raises(RemoteError):
        client.delete("abcd")
    assert api.requests == ["DELETE /v1/dumps/abcd"]


def test_nobody_listens(api: FakeApi) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bundle = replace(api.bundle(), api=Endpoint("localhost", bound.getsockname()[1]))
        with client_of(bundle) as client, pytest.raises(UnreachableError, match=r"refused.*netdump serve"):
            client.show("abcd")


def test_who_answers_does_not_speak_tls(api: FakeApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        bundle = replace(api.bundle(), api=Endpoint("localhost", server.getsockname()[1]))
        with client_of(bundle) as client, pytest.raises(ImpostorError, match="does not speak TLS"):
            client.show("abcd")


def test_run_tables_and_headline(store: Store, client: ApiClient, catalog: LocalCatalog) -> None:
    dump_id = Sample().store(store)
    assert list(client.run_tables(dump_id[:8])) == list(catalog.run_tables(dump_id))
    assert client.headline(dump_id) == Sample().headline()
    with pytest.raises(DumpNotFoundError):
        list(client.run_tables("ffff"))


def test_run_tables_that_are_cut_or_go_wrong(store: Store, api: FakeApi, client: ApiClient) -> None:
    dump_id = Sample().store(store)
    whole = b"".join(pack_stream(api.catalog.run_tables(dump_id)))
    path = f"/v1/dumps/{dump_id}/runs"
    api.answers[path] = 200, whole[:-1]
    with pytest.raises(UnreachableError, match="before their end"):
        list(client.run_tables(dump_id))
    trouble = b'{"error":{"code":"damaged","message":"a disk died"}}'
    api.answers[path] = 200, whole[:-4] + len(trouble).to_bytes(4, "big") + trouble
    with pytest.raises(DamagedError, match="a disk died"):
        list(client.run_tables(dump_id))
    api.answers[path] = 200, b"x" * 100
    with pytest.raises(RemoteError):
        list(client.run_tables(dump_id))


def test_no_headline(store: Store, client: ApiClient) -> None:
    sample = Sample()
    with sample.open(store):
        pass
    assert client.headline(sample.id) is None


def test_an_impostor(api: FakeApi, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    init_authority(other, ["localhost"])
    stranger = enrolled(Authority.load(other), "ann", Role.ANALYST)
    with client_of(replace(stranger, api=api.endpoint)) as client, pytest.raises(ImpostorError, match="not the coll"):
        client.show("abcd")
    # Our authority, but a certificate that theirs does not take.
    mixed = replace(stranger, api=api.endpoint, ca=api.bundle().ca)
    with client_of(mixed) as client, pytest.raises((RefusedError, UnreachableError)):
        client.show("abcd")  # the reset of the connection may overtake the alert


def test_a_collector_under_another_name(api: FakeApi) -> None:
    bundle = replace(api.bundle(), api=Endpoint("127.0.0.1", api.endpoint.port))
    with pytest.raises(NameMismatchError, match="netdump init --name"), client_of(bundle) as client:
        client.show("abcd")


def test_threads_share_a_client(store: Store, client: ApiClient) -> None:
    dump_id = Sample().store(store)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(client.log(dump_id))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [LOG] * 4


def test_reading_from_afar_needs_none_of_the_collectors_libraries() -> None:
    script = (
        "import sys, netdump.remote.api, netdump.remote.fetch, netdump.cli.main\n"
        "from netdump.cli import cmd_list, cmd_show, cmd_log, cmd_fetch, cmd_verify, cmd_delete, cmd_pages\n"
        "names = {'sqlalchemy', 'alembic', 'starlette', 'uvicorn', 'structlog', 'aiofiles', 'asyncio'}\n"
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
