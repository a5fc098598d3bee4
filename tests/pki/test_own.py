"""What a collector has for itself, and giving it another certificate."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from netdump.errors import BadNameError, CertificateError, NotACollectorError, PkiError, StorageFaultError
from netdump.pki import Authority, authority_certificate, collector_certificate, init_authority, reissue_collector
from netdump.pki.certificates import AUTHORITY_LIFE, COLLECTOR_LIFE, load_certificate, new_key
from netdump.pki.request import make_request
from tests.pki import papers
from tests.pki.conftest import NAMES

YEAR = 365 * 86400


def test_the_two(folder: Path) -> None:
    authority, own = authority_certificate(folder), collector_certificate(folder)
    assert (authority.whose, own.whose) == ("authority", "collector")
    assert own.names == NAMES
    assert authority.names[0].startswith("netdump authority ")
    assert own.pem == (folder / "pki" / "collector.crt").read_text()
    assert authority.fingerprint != own.fingerprint
    assert own.validity.last < authority.validity.last
    with pytest.raises(NotACollectorError):
        authority_certificate(folder / "pki")


def test_one_without_names(folder: Path) -> None:
    place = folder / "pki"
    (place / "collector.crt").write_bytes((place / "ca.crt").read_bytes())
    with pytest.raises(CertificateError, match=r"collector\.crt bears no names"):
        collector_certificate(folder)
    with pytest.raises(CertificateError):
        Authority.load(folder).collector_names()


def test_reissuing(folder: Path, authority: Authority) -> None:
    place = folder / "pki"
    key, before = (place / "collector.key").read_bytes(), collector_certificate(folder)
    abandoned = place / f".collector.crt.{'0' * 12}.partial"  # by a renewal that was killed
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    reissue_collector(folder, ["new.example", "192.0.2.9"])
    assert not abandoned.exists()
    after = collector_certificate(folder)
    assert authority.collector_names() == after.names == ("new.example", "192.0.2.9")
    assert (after.fingerprint, after.pem != before.pem) == (before.fingerprint, True)
    assert (place / "collector.key").read_bytes() == key
    assert stat.S_IMODE((place / "collector.crt").stat().st_mode) == 0o600
    load_certificate(after.pem, "it").verify_directly_issued_by(load_certificate(authority.ca_pem, "the authority's"))
    with pytest.raises(BadNameError):
        reissue_collector(folder, [])


@pytest.mark.parametrize("years", [9, 11, 19.5])
def test_reissuing_late(tmp_path: Path, years: float) -> None:
    """Also after its end; not beyond the authority's."""
    then = int(time.time() - years * YEAR)
    init_authority(tmp_path, NAMES, now=then)
    reissue_collector(tmp_path, NAMES)
    ends = collector_certificate(tmp_path).validity.last.timestamp()
    assert ends == pytest.approx(
        min(time.time() + COLLECTOR_LIFE.total_seconds(), then + AUTHORITY_LIFE.total_seconds()), abs=100
    )


def test_not_after_the_authority(tmp_path: Path) -> None:
    init_authority(tmp_path, NAMES, now=time.time() - 21 * YEAR)
    before = collector_certificate(tmp_path).pem
    with pytest.raises(CertificateError, match="make a new authority"):
        reissue_collector(tmp_path, NAMES)
    assert collector_certificate(tmp_path).pem == before


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_one_that_is_lost(folder: Path, content: bytes | None) -> None:
    path = folder / "pki" / "collector.crt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    reissue_collector(folder, NAMES)
    assert collector_certificate(folder).names == NAMES


def test_an_authority_from_a_backup(folder: Path, tmp_path: Path) -> None:
    """Only ca.key and ca.crt were saved: hosts enrolled before know the new machine all the same."""
    bundle = papers.enrolled(Authority.load(folder), "web1")
    fresh = tmp_path / "fresh"
    init_authority(fresh, ["other.example"])
    for name in ("ca.key", "ca.crt"):
        (fresh / "pki" / name).write_bytes((folder / "pki" / name).read_bytes())
    reissue_collector(fresh, NAMES)
    authority = Authority.load(fresh)
    assert authority.admit(papers.der(bundle.certificate)).name == "web1"
    authority.renew(papers.der(bundle.certificate), make_request(new_key()))
    load_certificate(collector_certificate(fresh).pem, "it").verify_directly_issued_by(
        load_certificate(bundle.ca, "the authority's")
    )
    (fresh / "pki" / "ca.key").write_bytes((fresh / "pki" / "collector.key").read_bytes())
    with pytest.raises(PkiError, match="restore both from one backup"):
        reissue_collector(fresh, NAMES)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_cut_short(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """At every instant the certificate in place is whole, and that of the key."""
    before = sorted((path.name, path.read_bytes()) for path in (folder / "pki").glob("*.*"))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(StorageFaultError, match=r"collector\.crt"):
        reissue_collector(folder, ["new.example"])
    assert sorted((path.name, path.read_bytes()) for path in (folder / "pki").glob("*.*")) == before
