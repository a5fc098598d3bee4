"""What was issued and what was revoked survives restarts, and asking fails closed."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from netdump.errors import PkiError, StorageFaultError
from netdump.pki import Role
from netdump.pki.certificates import Issuer, build_authority, build_client, certificate_pem, new_key
from netdump.pki.identity import fingerprint
from netdump.pki.ledger import Ledger, check_fingerprint

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
KEY = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    key = new_key()
    return Issuer(build_authority(key, NOW), key)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(tmp_path)


def make(root: Path) -> Ledger:
    for name in ("issued", "revoked"):
        (root / name).mkdir(exist_ok=True)
    return Ledger(root / "issued", root / "revoked")


def test_what_is_recorded_comes_back(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    key = new_key().public_key()
    first = build_client(Role.HOST, "web1", key, issuer, NOW)
    second = build_client(Role.HOST, "web1", key, issuer, NOW)
    ledger.record(Role.HOST, "web1", first, SECONDS)
    ledger.record(Role.HOST, "web1", second, SECONDS + 5)
    survey = make(tmp_path).survey()
    assert survey.damaged == ()
    assert [each.issued for each in survey.certificates] == [SECONDS + 5, SECONDS]
    each = survey.certificates[1]
    assert (each.role, each.name, each.fingerprint) == (Role.HOST, "web1", fingerprint(key))
    assert (each.not_before, each.not_after) == (SECONDS - 86400, SECONDS + 730 * 86400)
    assert each.pem == certificate_pem(first)
    assert int(each.serial, 16) == first.serial_number
    assert each.revoked is None


def test_revoking(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    key = new_key().public_key()
    ledger.record(Role.HOST, "web1", build_client(Role.HOST, "web1", key, issuer, NOW), SECONDS)
    assert not ledger.is_revoked(fingerprint(key))
    assert ledger.revoke(fingerprint(key), SECONDS + 9)
    assert ledger.is_revoked(fingerprint(key))
    assert make(tmp_path).is_revoked(fingerprint(key))
    assert not ledger.revoke(fingerprint(key), SECONDS + 10)
    assert [each.revoked for each in ledger.survey().certificates] == [SECONDS + 9]


def test_an_unknown_key_can_be_revoked(ledger: Ledger) -> None:
    assert ledger.revoke(KEY, SECONDS)
    assert ledger.is_revoked(KEY)


def test_the_file_counts_and_not_its_content(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    key = new_key().public_key()
    ledger.record(Role.HOST, "web1", build_client(Role.HOST, "web1", key, issuer, NOW), SECONDS)
    (tmp_path / "revoked" / fingerprint(key)).touch()
    assert ledger.is_revoked(fingerprint(key))
    assert ledger.survey().certificates[0].revoked == 0


def test_a_dangling_link_counts_as_revoked(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "revoked" / KEY).symlink_to(tmp_path / "nothing")
    assert ledger.is_revoked(KEY)


def test_without_its_folder_nobody_is_welcome(ledger: Ledger, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "revoked")
    with pytest.raises(PkiError, match="revoked is missing"):
        ledger.is_revoked(KEY)


def test_a_disk_that_fails_lets_nobody_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "lstat", fail)
    with pytest.raises(StorageFaultError):
        ledger.is_revoked(KEY)


@pytest.mark.parametrize("text", ["", "../ca.crt", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "/x", "\ud800" * 64])
def test_only_fingerprints_become_names(ledger: Ledger, text: str) -> None:
    for ask in (ledger.is_revoked, check_fingerprint, lambda key: ledger.revoke(key, SECONDS)):
        with pytest.raises(PkiError, match="64 hexadecimal digits"):
            ask(text)


def test_fingerprints_as_people_write_them() -> None:
    assert check_fingerprint(f" {KEY.upper()}\n") == KEY
    assert check_fingerprint(":".join(KEY[i : i + 2] for i in range(0, 64, 2))) == KEY


def test_damage_hides_nothing_else(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    ledger.record(Role.HOST, "web1", build_client(Role.HOST, "web1", new_key().public_key(), issuer, NOW), SECONDS)
    (tmp_path / "issued" / f"{KEY}.1.json").write_bytes(b"damaged")
    good = next(path for path in (tmp_path / "issued").iterdir() if not path.name.startswith(KEY))
    (tmp_path / "issued" / "abc.1.json").write_bytes(good.read_bytes())
    (tmp_path / "issued" / ".x.partial").write_bytes(b"half")
    survey = ledger.survey()
    assert [each.name for each in survey.certificates] == ["web1"]
    assert len(survey.damaged) == 2
    assert f"{KEY}.1.json is damaged" in survey.damaged[0]
    assert "abc.1.json: the file's name" in survey.damaged[1]


def test_a_record_that_cannot_be_read_hides_nothing_else(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    key = new_key().public_key()
    ledger.record(Role.HOST, "web1", build_client(Role.HOST, "web1", key, issuer, NOW), SECONDS)
    (tmp_path / "issued" / f"{KEY}.1.json").mkdir()  # as a disk that fails, or a file of root's
    (tmp_path / "revoked" / fingerprint(key)).mkdir()
    survey = ledger.survey()
    assert [(each.name, each.revoked) for each in survey.certificates] == [("web1", 0)]
    assert [f"cannot read {tmp_path}/issued/{KEY}.1.json" in text for text in survey.damaged] == [True]


def test_a_folder_that_is_missing_is_not_an_empty_one(ledger: Ledger, issuer: Issuer, tmp_path: Path) -> None:
    ledger.record(Role.HOST, "web1", build_client(Role.HOST, "web1", new_key().public_key(), issuer, NOW), SECONDS)
    shutil.rmtree(tmp_path / "revoked")
    with pytest.raises(PkiError, match="revoked is missing"):
        ledger.survey()
    shutil.rmtree(tmp_path / "issued")
    with pytest.raises(PkiError, match="issued is missing"):
        ledger.survey()
