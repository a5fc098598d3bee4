"""Enrolment and renewal over HTTPS: what a stranger can do, and cannot."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from netdump.pki import Role, make_token
from netdump.pki.certificates import new_key
from netdump.pki.identity import fingerprint
from netdump.pki.request import make_request
from netdump.pki.token import parse_token
from netdump.server.api import BODY_MAX, RENEWALS_PER_DAY
from netdump.server.config import DAY_S
from tests.server.rig import Desk, Papers, Rig, issue

if TYPE_CHECKING:
    from pathlib import Path


def secret(folder: Path, role: Role = Role.HOST, name: str = "new1") -> str:
    return parse_token(make_token(folder, name, role)).secret_text()


def body(**members: Any) -> dict[str, Any]:
    return {"body": json.dumps(members)}


@pytest.mark.parametrize("role", list(Role))
def test_a_token_buys_one_certificate(folder: Path, role: Role) -> None:
    settings = {"ingest": {"listen": "127.0.0.1:0", "advertise": ["a.example:7461", "[2001:db8::1]:1"]}}
    token, key = secret(folder, role), new_key()
    with Rig(folder, settings) as rig, Desk(rig, None) as desk:
        answer = desk.ask("POST", "/v1/enroll", **body(token=token, csr=make_request(key)))
        assert answer.status == 200
        issued = json.loads(answer.data)
        assert set(issued) == {"name", "role", "certificate", "ca", "ingest_port", "advertise"}
        assert (issued["name"], issued["role"]) == ("new1", role)
        assert issued["ingest_port"] == rig.ingest.port
        assert issued["advertise"] == ["a.example:7461", "[2001:db8::1]:1"]
        told = desk.ask("GET", "/v1/ca").headers["date"]
        assert abs(parsedate_to_datetime(told).timestamp() - time.time()) < 60
        assert issued["ca"].encode() == desk.ask("GET", "/v1/ca").data == (folder / "pki" / "ca.crt").read_bytes()
        certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
        assert certificate.public_key() == key.public_key()
        assert desk.error("POST", "/v1/enroll", **body(token=token, csr=make_request(new_key()))) == (403, "token")
        event = rig.events.wait("enrolled")
        assert (event["enrolled"], event["as_role"]) == ("new1", str(role))
        assert event["fingerprint"] == fingerprint(key.public_key())
        assert token not in str(rig.events._events)
        # The log knows why, the stranger does not.
        assert "used before" in str(rig.events.wait("request-failed")["reason"])


NONSENSE = [
    (b"", (400, "bad-request")),
    (b"{", (400, "bad-request")),
    (b"[]", (400, "bad-request")),
    (b'"text"', (400, "bad-request")),
    (b"[" * 10_000, (400, "bad-request")),
    (b"{}", (400, "bad-request")),
    (b'{"token": "x"}', (400, "bad-request")),
    (b'{"token": 5, "csr": "x"}', (400, "bad-request")),
    (b'{"token": null, "csr": {}}', (400, "bad-request")),
    (b"\xff\xfe", (400, "bad-request")),
    (b'{"token": "", "csr": ""}', (403, "token")),
    (b'{"token": "AAAAAAAAAAAAAAAAAAAAAA", "csr": "x"}', (403, "token")),
    (b'{"token": "' + b"a" * (BODY_MAX - 40) + b'", "csr": ""}', (403, "token")),
    (b" " * BODY_MAX + b'{"token": "a", "csr": ""}', (400, "bad-request")),  # else it were a wrong token
    (b"x" * (4 << 20), (400, "bad-request")),
]


def test_what_makes_no_sense_is_refused(folder: Path) -> None:
    settings = {"api": {"listen": "127.0.0.1:0", "enrolments_per_minute_per_source": 100}}
    with Rig(folder, settings) as rig:
        for sent, expected in NONSENSE:
            with Desk(rig, None) as desk:
                assert desk.error("POST", "/v1/enroll", body=sent) == expected, sent[:40]


def test_a_bad_request_leaves_the_token_good(folder: Path) -> None:
    token = secret(folder)
    with Rig(folder) as rig, Desk(rig, None) as desk:
        assert desk.error("POST", "/v1/enroll", **body(token=token, csr="no")) == (400, "signing-request")
        other = make_request(new_key(), "somebody-else")
        assert desk.error("POST", "/v1/enroll", **body(token=token, csr=other)) == (403, "name-mismatch")
        assert desk.ask("POST", "/v1/enroll", **body(token=token, csr=make_request(new_key()))).status == 200


def test_guessing_is_slow(folder: Path) -> None:
    settings = {"api": {"listen": "127.0.0.1:0", "enrolments_per_minute_per_source": 3}}
    with Rig(folder, settings) as rig, Desk(rig, None) as desk:
        guess = body(token="A" * 22, csr="x")
        codes = [desk.error("POST", "/v1/enroll", **guess) for _ in range(5)]
        assert codes == [(403, "token")] * 3 + [(429, "rate-limited")] * 2
        assert desk.ask("POST", "/v1/enroll", **guess).headers["retry-after"] == "60"
        assert desk.ask("GET", "/v1/ca").status == 200, "nothing else is limited"
        rig.skip(20)  # which also ends the connection: it was silent for too long
        with Desk(rig, None) as later:
            assert later.error("POST", "/v1/enroll", **guess) == (403, "token")


def test_renewals_are_counted_by_name(folder: Path, web1: Papers, web2: Papers) -> None:
    """A fleet behind one address renews in the same hours, whatever strangers do there."""
    settings = {"api": {"listen": "127.0.0.1:0", "enrolments_per_minute_per_source": 2, "enrolments_per_minute": 3}}
    with Rig(folder, settings) as rig, Desk(rig, None) as stranger, Desk(rig, web1) as one, Desk(rig, web2) as two:
        for _ in range(3):
            guessed = stranger.error("POST", "/v1/enroll", **body(token="A" * 22, csr="x"))
        assert guessed == (429, "rate-limited")
        codes = [one.error("POST", "/v1/renew", **body(csr="x")) for _ in range(3)]
        assert codes == [(400, "signing-request")] * 2 + [(429, "rate-limited")]
        assert two.error("POST", "/v1/renew", **body(csr="x")) == (400, "signing-request")
        assert two.error("POST", "/v1/renew", **body(csr="x")) == (429, "rate-limited"), "three in all"


def test_a_host_uses_up_no_renewals_of_a_person_of_its_name(folder: Path) -> None:
    settings = {"api": {"listen": "127.0.0.1:0", "enrolments_per_minute_per_source": 100}}
    host, person = (issue(folder, role, "ann7") for role in (Role.HOST, Role.ANALYST))
    with Rig(folder, settings) as rig, Desk(rig, host) as one, Desk(rig, person) as other:
        for _ in range(RENEWALS_PER_DAY + 1):
            refused = one.error("POST", "/v1/renew", **body(csr="x"))
        assert refused == (429, "rate-limited")
        assert other.error("POST", "/v1/renew", **body(csr="x")) == (400, "signing-request")


def test_renewals_of_a_day(folder: Path, web1: Papers) -> None:
    """Each leaves a file for good; who revokes a name must be through with all of them before the night is over."""
    settings = {"api": {"listen": "127.0.0.1:0", "enrolments_per_minute_per_source": 100}}
    with Rig(folder, settings) as rig:
        with Desk(rig, web1) as desk:
            codes = [desk.error("POST", "/v1/renew", **body(csr="x")) for _ in range(RENEWALS_PER_DAY + 1)]
            assert codes == [(400, "signing-request")] * RENEWALS_PER_DAY + [(429, "rate-limited")]
        rig.skip(DAY_S / RENEWALS_PER_DAY)
        with Desk(rig, web1) as desk:
            codes = [desk.error("POST", "/v1/renew", **body(csr="x")) for _ in range(2)]
            assert codes == [(400, "signing-request"), (429, "rate-limited")]


@pytest.mark.parametrize("who", ["web1", "ann", "olga"])
def test_renewal(folder: Path, who: str, request: pytest.FixtureRequest) -> None:
    papers: Papers = request.getfixturevalue(who)
    key = new_key()
    with Rig(folder) as rig, Desk(rig, papers) as desk:
        answer = desk.ask("POST", "/v1/renew", **body(csr=make_request(key)))
        assert answer.status == 200
        issued = json.loads(answer.data)
        assert (issued["name"], issued["role"]) == (papers.name, papers.role)
        assert x509.load_pem_x509_certificate(issued["certificate"].encode()).public_key() == key.public_key()
        other = make_request(new_key(), "somebody-else")
        assert desk.error("POST", "/v1/renew", **body(csr=other)) == (403, "name-mismatch")
        assert desk.error("POST", "/v1/renew", **body()) == (400, "bad-request")
        event = rig.events.wait("renewed")
        assert (event["name"], event["fingerprint"]) == (papers.name, fingerprint(key.public_key()))
