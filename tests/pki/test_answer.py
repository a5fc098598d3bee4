"""An answer is believed only if it is for our key, from our authority, and says one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import CertificateError, ImpostorError
from netdump.pki import Authority, Role, init_authority
from netdump.pki.answer import Answer, check_answer
from netdump.pki.certificates import PrivateKey, load_certificate, new_key
from netdump.pki.request import make_request
from tests.pki import papers
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

URL = "https://collector.example:7462"


@pytest.fixture
def key() -> PrivateKey:
    return new_key()


def answer_of(authority: Authority, key: PrivateKey) -> dict[str, object]:
    issue = authority.redeem(papers.secret_of(authority.make_token("web1", Role.HOST)), make_request(key))
    return {
        "name": issue.name,
        "role": str(issue.role),
        "certificate": issue.certificate,
        "ca": issue.ca,
        "ingest_port": 7461,
        "advertise": ["a.example:1"],
    }


def trusted(authority: Authority) -> x509.Certificate:
    return load_certificate(authority.ca_pem, "it")


def test_good(authority: Authority, key: PrivateKey) -> None:
    fields = answer_of(authority, key)
    pem = fields["certificate"]
    assert isinstance(pem, str)
    assert check_answer(fields, key, trusted(authority), URL) == Answer("web1", Role.HOST, pem, 7461, ("a.example:1",))
    del fields["advertise"]
    assert check_answer(fields, key, trusted(authority), URL).advertise == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", 7),
        ("name", "a/b"),
        ("name", "\x1b[31m"),
        ("role", None),
        ("role", "root"),
        ("role", ["host"]),
        ("role", 1),
        ("certificate", None),
        ("certificate", 7),
        ("ingest_port", None),
        ("ingest_port", "7461"),
        ("ingest_port", 0),
        ("ingest_port", 65536),
        ("ingest_port", True),
        ("ingest_port", 1.5),
        ("advertise", None),
        ("advertise", "a"),
        ("advertise", [7]),
        ("advertise", ["a"] * 17),
    ],
)
def test_strange(authority: Authority, key: PrivateKey, field: str, value: object) -> None:
    fields = {**answer_of(authority, key), field: value}
    with pytest.raises(ImpostorError, match=f"{field} is missing or makes no sense"):
        check_answer(fields, key, trusted(authority), URL)


def test_certificates_that_are_not_for_us(authority: Authority, key: PrivateKey, tmp_path: Path) -> None:
    good = answer_of(authority, key)
    init_authority(tmp_path / "other", NAMES)
    elsewhere = answer_of(Authority.load(tmp_path / "other"), key)["certificate"]
    for pem in (papers.enrolled(authority, "web1").certificate, elsewhere, authority.ca_pem, "nonsense"):
        with pytest.raises(CertificateError):
            check_answer({**good, "certificate": pem}, key, trusted(authority), URL)


@pytest.mark.parametrize("change", [{"name": "web2"}, {"role": "operator"}])
def test_answers_that_contradict_themselves(authority: Authority, key: PrivateKey, change: dict[str, object]) -> None:
    with pytest.raises(CertificateError, match="nothing was written"):
        check_answer({**answer_of(authority, key), **change}, key, trusted(authority), URL)
