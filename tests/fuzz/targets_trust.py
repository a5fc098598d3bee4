"""What decides about trust: tokens, signing requests, certificates, receipts, and the bundle that holds them."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from netdump.client.config import load_config
from netdump.client.credentials import client_context
from netdump.errors import (
    CertificateError,
    ConfigError,
    DamagedError,
    ImpostorError,
    NameMismatchError,
    SigningRequestError,
    TokenError,
)
from netdump.pki import Bundle, Role, init_authority, make_token, sign_receipt
from netdump.pki.answer import check_answer
from netdump.pki.bundle import parse_bundle
from netdump.pki.certificates import certificate_pem, key_pem, load_certificate, load_key, new_key
from netdump.pki.endpoint import Endpoint
from netdump.pki.identity import peer_identity
from netdump.pki.receipt import check_receipt
from netdump.pki.request import check_request, make_request
from netdump.pki.token import TokenBook, parse_token
from netdump.store.sealed import seal
from tests.fuzz.janitor import MEMORY, prefix
from tests.fuzz.target import MIB, Target
from tests.server.rig import issue

NOW: Final = 1_800_000_000


class _Office:
    """A collector's folder in memory's file system, with one of everything that it gives out."""

    def __init__(self) -> None:
        self._holder = tempfile.TemporaryDirectory(prefix=prefix(), dir=MEMORY)
        self.folder = Path(self._holder.name) / "collector"
        self.folder.mkdir(0o700)
        init_authority(self.folder, ["localhost", "127.0.0.1"])
        self.token = make_token(self.folder, "web1", Role.HOST)
        self.papers = issue(self.folder, Role.HOST, "web2").file.read_text()
        self.ca = (self.folder / "pki" / "ca.crt").read_text()
        self.certificate = self.papers[: self.papers.index("-----BEGIN PRIVATE")]
        self.key = load_key(self.papers[len(self.certificate) :], "the key")
        self.bundle = self.folder.parent / "sound.toml"
        self.bundle.write_text(self.bundle_text())

    def bundle_text(self) -> str:
        key = self.papers[len(self.certificate) :]
        bundle = Bundle(
            "web2", Role.HOST, ("127.0.0.1:7461",), Endpoint("127.0.0.1"), self.ca, self.certificate, key, "b"
        )
        return bundle.text() + "\n[send]\nlevel = 31\ndeadline = 600\n"

    def receipt(self) -> bytes:
        fields = {"id": "ab" * 16, "host": "web1", "image_bytes": 1, "chunks": 1, "root": "cd" * 32, "completed": 2}
        return sign_receipt(self.folder, fields)


office = cache(_Office)


def _token(data: bytes) -> None:
    text = _text(data)
    with suppress(TokenError):
        token = parse_token(text)
        assert parse_token(token.text()) == token
    with suppress(TokenError):
        TokenBook(office().folder / "pki" / "tokens").find(text, NOW)
        raise AssertionError("a token was guessed")


def _request(data: bytes) -> None:
    check_request(_text(data), Role.HOST, "web1")


def _certificate(data: bytes) -> None:
    """As DER from TLS, and as PEM from an answer or a file."""
    with suppress(CertificateError):
        identity = peer_identity(data)
        assert identity.name.isprintable()
        assert "/" not in identity.name
    load_certificate(data, "what was sent")


def _receipt(data: bytes) -> None:
    """As it came, and sealed."""
    with suppress(DamagedError, CertificateError):
        check_receipt(data, office().ca)
    try:
        members = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(members, dict) and not any(isinstance(value, float) for value in members.values()):
        members.pop("sha256", None)
        try:
            sealed = seal(members)
        except (ValueError, RecursionError):
            return  # nothing that could be written down either
        check_receipt(sealed, office().ca)


def _answer(data: bytes) -> None:
    """What a collector answers to an enrolment."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(fields, dict):
        check_answer(fields, office().key, load_certificate(office().ca, "ca"), "https://there")


def _bundle(data: bytes) -> None:
    """The bundle as the analyst's commands read it, as the sender reads it, and its keys in OpenSSL."""
    with suppress(ConfigError):
        parse_bundle(data.decode("utf-8", "replace"), "client.toml")
    path = office().folder.parent / "client.toml"
    path.write_bytes(data)
    config = load_config(str(path), {}, {})
    client_context(config.credentials, str(path))


def _text(data: bytes) -> str:
    r"""Any text that JSON can bring, single surrogates (\ud800) included."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _tokens() -> list[bytes]:
    token = parse_token(office().token)
    return [office().token.encode(), token.text()[:-1].encode(), token.secret_text()[::-1].encode()]


def _requests() -> list[bytes]:
    return [make_request(new_key(), name).encode() for name in (None, "web1", "web2")]


def _certificates() -> list[bytes]:
    pem = office().certificate.encode()
    return [pem, x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER), office().ca.encode()]


def _answers() -> list[bytes]:
    certificate = certificate_pem(x509.load_pem_x509_certificate(office().certificate.encode()))
    good = {
        "name": "web2", "role": "host", "certificate": certificate, "ca": office().ca, "ingest_port": 7461,
        "advertise": ["a:1"],
    }  # fmt: skip
    return [json.dumps(good).encode(), json.dumps({**good, "name": "../web2"}).encode()]


def _bundles() -> list[bytes]:
    encrypted = key_pem(new_key()).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    text = office().bundle_text()
    return [text.encode(), text.replace("level = 31", "level = " + "9" * 5000).encode(), encrypted.encode()]


_ANSWER_ERRORS: Final = (CertificateError, ImpostorError)

TARGETS = (
    Target("token", _token, (), _tokens, bytes_max=512),
    Target("request", _request, (SigningRequestError, NameMismatchError), _requests, rounds=200),
    Target("certificate", _certificate, (CertificateError,), _certificates),
    Target("receipt", _receipt, (DamagedError, CertificateError), lambda: [office().receipt()], bytes_max=1 << 14),
    Target("answer", _answer, _ANSWER_ERRORS, _answers, bytes_max=8192, rounds=300),
    Target("bundle", _bundle, (ConfigError,), _bundles, bytes_max=1 << 14, memory_max=16 * MIB, rounds=150),
)
