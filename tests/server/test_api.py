"""The API as a whole: who may do what (every route, every role), and how it says no."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from netdump.pki import Authority, Role
from netdump.server import dumps, enrolment, packed, runs
from netdump.server.audit import STRANGERS_PER_MINUTE
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import Desk, Host, Rig, issue
from tests.server.test_https import connected

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.server.conftest import Template

DUMP = SampleDump(seed=81, image_bytes=20_000)
ID = DUMP.origin.id
FORBIDDEN = (403, "forbidden")
NO_CERTIFICATE = (403, "certificate")
REVOKED = (403, "revoked")


class Row(NamedTuple):
    """What each of nobody, host, analyst and operator gets from a route: allowed or not. Who is revoked is nobody."""

    method: str
    path: str
    nobody: bool
    host: bool
    analyst: bool
    operator: bool


# Written down by hand, not taken from the code: INTERFACES, "roles".
MATRIX = [
    Row("GET", "/v1/ca", True, True, True, True),
    Row("POST", "/v1/enroll", True, True, True, True),
    Row("POST", "/v1/renew", False, True, True, True),
    Row("GET", "/v1/dumps", False, False, True, True),
    Row("GET", "/v1/dumps/{id}", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/log", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/headline", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/receipt", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/plan", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/runs", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/segments/{name}", False, False, True, True),
    Row("GET", "/v1/dumps/{id}/segments/{name}/packed", False, False, True, True),
    Row("POST", "/v1/dumps/{id}/verify", False, False, True, True),
    Row("DELETE", "/v1/dumps/{id}", False, False, False, True),
]


def test_the_matrix_knows_every_route() -> None:
    endpoints = enrolment.ENDPOINTS + dumps.ENDPOINTS + packed.ENDPOINTS + runs.ENDPOINTS
    routes = {(endpoint.method, endpoint.path) for endpoint in endpoints}
    assert routes == {(row.method, row.path) for row in MATRIX}


def test_every_route_with_every_role(folder: Path, template: Template) -> None:
    with Rig(folder) as rig:
        with Host(rig, template.web1) as host:
            host.send_all(DUMP)
        rig.events.wait("dump-restored")
        with Desk(rig, template.ann) as desk:
            (segment,) = desk.get(f"/v1/dumps/{ID}/plan")["segments"]
        who = {"nobody": None, "host": template.web1, "analyst": template.ann, "operator": template.olga}
        for row in MATRIX:
            for role, papers in who.items():
                path = row.path.replace("{id}", ID).replace("{name}", segment["name"])
                with Desk(rig, papers) as desk:
                    answer = desk.ask(row.method, path, body=b"{}" if row.method == "POST" else None)
                code = json.loads(answer.data)["error"]["code"] if answer.status >= 400 else None
                got = (answer.status, code)
                if getattr(row, role):
                    # Allowed: done, or refused for what was asked, not for who asked.
                    assert got in {(200, None), (400, "bad-request")}, (row, role, got)
                else:
                    assert got == (NO_CERTIFICATE if papers is None else FORBIDDEN), (row, role, got)
        Authority.load(folder).revoke(template.olga.fingerprint)
        for row in MATRIX:
            path = row.path.replace("{id}", ID).replace("{name}", segment["name"])
            with Desk(rig, template.olga) as desk:
                answer = desk.ask(row.method, path, body=b"{}" if row.method == "POST" else None)
            assert row.nobody or (answer.status, json.loads(answer.data)["error"]["code"]) == REVOKED, row
        refused = rig.events.all("request-failed")
        assert {each.get("role") for each in refused} <= {None, "host", "analyst", "operator"}
        assert len(refused) >= 20


def test_strangers_cannot_fill_the_log_with_requests(folder: Path) -> None:
    with Rig(folder) as rig, Desk(rig, None) as desk:
        begun = time.monotonic()
        for _ in range(2 * STRANGERS_PER_MINUTE):
            assert desk.error("GET", "/v1/dumps") == NO_CERTIFICATE
        refilled = (time.monotonic() - begun) / 60 * STRANGERS_PER_MINUTE
        assert 0 <= len(rig.events.all("request-failed")) - STRANGERS_PER_MINUTE <= refilled


def test_hosts_cannot_fill_the_log_with_renewals(folder: Path, template: Template) -> None:
    """Those beyond the limit cost a host nothing, and each was a line."""
    with Rig(folder) as rig, Desk(rig, template.web1) as desk:
        begun = time.monotonic()
        for _ in range(2 * STRANGERS_PER_MINUTE):
            desk.error("POST", "/v1/renew", body=b"{}")
        refilled = (time.monotonic() - begun) / 60 * STRANGERS_PER_MINUTE
        told = rig.events.all("request-failed")
        assert 0 <= len(told) - STRANGERS_PER_MINUTE <= refilled
        assert {(each["role"], each["name"]) for each in told} == {("host", "web1")}


def test_half_a_request_is_no_mistake_of_ours(folder: Path) -> None:
    with Rig(folder) as rig:
        with connected(rig) as sock:
            sock.sendall(b"POST /v1/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        assert rig.events.wait("request-failed")["reason"] == "the request broke off"
        assert not rig.events.all("library")


def test_a_revoked_analyst_is_out_at_the_next_request(folder: Path) -> None:
    papers = issue(folder, Role.ANALYST, "eve")
    with Rig(folder) as rig, Desk(rig, papers) as desk:
        assert desk.get("/v1/dumps") == {"dumps": []}
        Authority.load(folder).revoke(papers.fingerprint)
        assert desk.error("GET", "/v1/dumps") == (403, "revoked")


ABSENT = [
    ("GET", "/", 404),
    ("GET", "/v1", 404),
    ("GET", "/v1/dumps/", 404),
    ("GET", "/v1/dumps/a/b", 404),
    ("GET", "/v1/dumps/a/segments/b/c", 404),
    ("GET", "/v2/dumps", 404),
    ("POST", "/v1/ca", 405),
    ("PUT", "/v1/dumps", 405),
    ("DELETE", "/v1/dumps", 405),
    ("GET", "/v1/enroll", 405),
    ("OPTIONS", "/v1/dumps", 405),
]


def test_what_is_not_there(folder: Path, template: Template) -> None:
    with Rig(folder) as rig, Desk(rig, template.olga) as desk:
        for method, path, status in ABSENT:
            assert desk.error(method, path, redirect=False) == (status, "bad-request"), path
        assert b"upgrade the collector" in desk.ask("GET", "/v1/news").data  # asked by a newer one


def test_head_is_get_without_a_body(folder: Path, template: Template) -> None:
    with Rig(folder) as rig, Desk(rig, template.ann) as desk:
        answer = desk.ask("HEAD", "/v1/dumps")
        assert (answer.status, answer.data) == (200, b"")
    with Rig(folder) as rig, Desk(rig, None) as desk:
        assert desk.ask("HEAD", "/v1/dumps").status == 403


def test_a_mistake_of_ours_is_answered_without_details_and_logged(
    folder: Path, template: Template, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("secret detail")

    monkeypatch.setattr("netdump.index.catalog.LocalCatalog.show", fail)
    with Rig(folder) as rig, Desk(rig, template.ann) as desk:
        answer = desk.ask("GET", "/v1/dumps/0000")
        assert answer.status == 500
        assert json.loads(answer.data)["error"]["code"] == "internal"
        assert b"secret" not in answer.data
    assert any("Exception in ASGI application" in record.message for record in caplog.records)


def test_nothing_of_the_library_shows(folder: Path) -> None:
    with Rig(folder) as rig, Desk(rig, None) as desk:
        headers = desk.ask("GET", "/v1/ca").headers
        assert "server" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
