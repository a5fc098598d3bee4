"""Receipts: what the collector signed is good for its authority and for nobody else."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from netdump.errors import CertificateError, DamagedError, PkiError
from netdump.pki import Authority, check_receipt, init_authority, reissue_collector, sign_receipt
from netdump.pki.certificates import load_certificate, load_key
from netdump.pki.names import COLLECTOR_NAMES_MAX
from netdump.store.sealed import canonical, seal
from netdump.wire import RECEIPT_MAX
from tests.pki import papers
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, object] = {
    "id": "00112233445566778899aabbccddeeff",
    "host": "web1",
    "image_bytes": 218_000_000,
    "chunks": 217,
    "root": papers.ROOT,
    "completed": 1_800_000_000,
}


def resealed(document: bytes, **changes: object) -> bytes:
    """The same statement with changes, sealed again: only the signature can tell."""
    fields = json.loads(document)
    del fields["sha256"]
    return seal({**fields, **changes})


def test_round_trip(folder: Path, authority: Authority) -> None:
    document = sign_receipt(folder, FIELDS)
    assert len(document) <= RECEIPT_MAX
    fields = check_receipt(document, authority.ca_pem)
    assert {key: fields[key] for key in FIELDS} == FIELDS
    assert fields["collector"] == NAMES[0]
    assert fields["format"] == "netdump-receipt/1"
    assert fields["certificate"] == (folder / "pki" / "collector.crt").read_text()


def test_as_the_law_says(folder: Path) -> None:
    """Verify by hand what protocol/store.md section 6 says of the signature."""
    fields = json.loads(sign_receipt(folder, FIELDS))
    signature = base64.b64decode(fields.pop("signature"))
    del fields["sha256"]
    signed = (json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n").encode()
    key = load_certificate(fields["certificate"], "it").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "change", [{"host": "web2"}, {"image_bytes": 1}, {"completed": 0}, {"extra": True}, {"collector": "::1"}]
)
def test_changes_are_seen(folder: Path, authority: Authority, change: dict[str, object]) -> None:
    document = sign_receipt(folder, FIELDS)
    with pytest.raises(CertificateError, match="signature of the receipt is wrong"):
        check_receipt(resealed(document, **change), authority.ca_pem)
    with pytest.raises(DamagedError, match="the receipt is damaged"):
        check_receipt(document.replace(b"web1", b"web2"), authority.ca_pem)


@pytest.mark.parametrize("signature", [None, 7, "", "AAAA", "not base64", "ä"])
def test_bad_signatures(folder: Path, authority: Authority, signature: object) -> None:
    with pytest.raises(CertificateError, match="signature of the receipt is wrong"):
        check_receipt(resealed(sign_receipt(folder, FIELDS), signature=signature), authority.ca_pem)


def test_other_signers(folder: Path, authority: Authority, tmp_path: Path) -> None:
    document = sign_receipt(folder, FIELDS)
    init_authority(tmp_path / "other", NAMES)
    with pytest.raises(CertificateError, match="whom the collector's authority does not know"):
        check_receipt(document, Authority.load(tmp_path / "other").ca_pem)
    # A host has a certificate of the authority, too, but it is not a collector.
    host = papers.enrolled(authority, "localhost")
    statement: dict[str, object] = {
        **FIELDS,
        "format": "netdump-receipt/1",
        "collector": "localhost",
        "certificate": host.certificate,
    }
    signature = load_key(host.key, "it").sign(canonical(statement), ec.ECDSA(hashes.SHA256()))
    forged = seal({**statement, "signature": base64.b64encode(signature).decode()})
    with pytest.raises(CertificateError, match="another than the collector it names"):
        check_receipt(forged, authority.ca_pem)


@pytest.mark.parametrize("certificate", [None, "", "nonsense"])
def test_no_certificate(folder: Path, authority: Authority, certificate: object) -> None:
    with pytest.raises(CertificateError, match="in the receipt is not a certificate"):
        check_receipt(resealed(sign_receipt(folder, FIELDS), certificate=certificate), authority.ca_pem)


@pytest.mark.parametrize(
    "document", [b"", b"{}\n", b"nonsense", b"x" * (RECEIPT_MAX + 1), seal({"format": "netdump-origin/1"})]
)
def test_other_documents(authority: Authority, document: bytes) -> None:
    with pytest.raises(DamagedError):
        check_receipt(document, authority.ca_pem)


def test_a_receipt_that_is_too_large_is_not_read(folder: Path, authority: Authority) -> None:
    """Whole and sealed as it is: only its size is wrong."""
    large = resealed(sign_receipt(folder, FIELDS), extra="x" * RECEIPT_MAX)
    with pytest.raises(DamagedError, match=f"more than the {RECEIPT_MAX} it can have"):
        check_receipt(large, authority.ca_pem)


def test_receipts_outlive_certificates(tmp_path: Path) -> None:
    init_authority(tmp_path, NAMES, now=time.time() - 25 * 365 * 86400)
    check_receipt(sign_receipt(tmp_path, FIELDS), Authority.load(tmp_path).ca_pem)


def test_receipts_outlive_a_reissue(folder: Path, authority: Authority) -> None:
    document = sign_receipt(folder, FIELDS)
    reissue_collector(folder, ["new.example"])
    assert check_receipt(document, authority.ca_pem)["collector"] == "localhost"
    assert check_receipt(sign_receipt(folder, FIELDS), authority.ca_pem)["collector"] == "new.example"


def test_the_longest_receipt_fits(tmp_path: Path) -> None:
    labels = ".".join(["x" * 60] * 4)
    init_authority(tmp_path, [f"c{i:02}.{labels}" for i in range(COLLECTOR_NAMES_MAX)])
    longest = {**FIELDS, "host": "h" * 253, "image_bytes": 1 << 52, "chunks": 1 << 52}
    document = sign_receipt(tmp_path, longest)
    assert len(document) <= RECEIPT_MAX
    check_receipt(document, Authority.load(tmp_path).ca_pem)


def test_only_a_collector_signs(folder: Path) -> None:
    place = folder / "pki"
    for kind in ("crt", "key"):
        (place / f"collector.{kind}").write_bytes((place / f"ca.{kind}").read_bytes())
    with pytest.raises(CertificateError, match="is not a collector's certificate"):
        sign_receipt(folder, FIELDS)


def test_a_folder_without_a_key(folder: Path) -> None:
    (folder / "pki" / "collector.key").unlink()
    with pytest.raises(PkiError, match=r"collector\.key is missing"):
        sign_receipt(folder, FIELDS)
