"""Renewal over real HTTPS: same name, new key, everything else in the file untouched."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import (
    BundleError,
    CertificateError,
    ConfigError,
    ConfigMissingError,
    ImpostorError,
    RevokedError,
    StorageFaultError,
    UnreachableError,
)
from netdump.pki import Authority, Bundle, Role, init_authority
from netdump.pki.enroll import enroll
from netdump.pki.renew import renew
from tests.pki import papers
from tests.pki.api import Api
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86400
NOTES = "\n[send]\nlevel = 31  # as agreed with the database people\n"


@pytest.fixture
def path(api: Api, tmp_path: Path) -> Path:
    """A bundle of host web1, with a setting added by hand."""
    path = tmp_path / "desk" / "client.toml"
    enroll(api.url, api.authority.make_token("web1", Role.HOST), path)
    with path.open("a") as file:
        file.write(NOTES)
    return path


def test_renewal(api: Api, path: Path) -> None:
    before = Bundle.load(path)
    abandoned = path.with_name(f".client.toml.{'0' * 12}.partial")  # by a renewal that was killed
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    renewed = renew(path)
    assert renewed is not None
    assert Bundle.load(path) == renewed
    assert (renewed.name, renewed.role, renewed.collectors) == (before.name, before.role, before.collectors)
    assert renewed.key != before.key
    assert path.read_text().endswith(NOTES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["client.toml"]
    for bundle in (before, renewed):
        assert api.authority.admit(papers.der(bundle.certificate)).name == "web1"
    # And once more, with what the first renewal wrote.
    assert renew(path) is not None


def test_a_young_certificate_is_left_alone(api: Api, path: Path) -> None:
    api.requests.clear()
    before = path.read_bytes()
    assert renew(path, if_older_than=0.5) is None
    assert renew(path, if_older_than=0.5, now=time.time() + YEAR - 2 * 86400) is None
    assert (path.read_bytes(), api.requests) == (before, [])
    assert renew(path, if_older_than=0.5, now=time.time() + YEAR + 2 * 86400) is not None


def test_an_expired_certificate(api: Api, path: Path) -> None:
    api.requests.clear()
    with pytest.raises(CertificateError, match="enroll again"):
        renew(path, now=time.time() + 2 * YEAR + 60)
    assert api.requests == []


def test_a_revoked_certificate(api: Api, path: Path) -> None:
    before = path.read_bytes()
    api.authority.revoke_name("web1", Role.HOST)
    with pytest.raises(RevokedError):
        renew(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["client.toml"]


def test_a_file_that_cannot_be_changed_costs_no_certificate(api: Api, path: Path) -> None:
    bundle = Bundle.load(path)
    path.write_text(path.read_text() + f"\n[old]\nkey = '''\n{bundle.key}'''\n")
    api.requests.clear()
    with pytest.raises(BundleError, match="enroll again"):
        renew(path)
    assert api.requests == []


def test_a_link_stays_one(api: Api, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "client.toml"
    link.symlink_to("desk/client.toml")
    assert renew(link) == Bundle.load(path)
    assert link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_bundle_that_root_renews_stays_its_owners(api: Api, path: Path) -> None:
    os.chown(path, 12345, 54321)
    assert renew(path) is not None
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o600)


def test_a_full_disk_costs_no_certificate(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    api.requests.clear()
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(StorageFaultError, match=r"cannot write .*client\.toml: No space left"):
        renew(path)
    assert api.requests == []


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    link = tmp_path / "client.toml"
    link.symlink_to(link)
    with pytest.raises(ConfigError, match="symbolic links"):
        renew(link)


def test_what_is_written_into_the_file_meanwhile_stays(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Authority, *arguments: Any) -> object:
        path.write_text(path.read_text().replace("level = 31", "level = 1"))
        return answer(self, *arguments)

    answer = Authority.renew
    monkeypatch.setattr(Authority, "renew", slow)
    assert renew(path) == Bundle.load(path)
    assert path.read_text().endswith(NOTES.replace("31", "1"))


def test_who_enrolled_anew_meanwhile_keeps_that(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Authority, *arguments: Any) -> object:
        path.write_text(papers.enrolled(self, "web9").text())
        return answer(self, *arguments)

    answer = Authority.renew
    monkeypatch.setattr(Authority, "renew", slow)
    with pytest.raises(BundleError, match="got another key"):
        renew(path)
    assert Bundle.load(path).name == "web9"


def test_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissingError):
        renew(tmp_path / "client.toml")


def test_an_unreachable_collector(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    with Api(folder) as api:
        enroll(api.url, api.authority.make_token("web1", Role.HOST), path)
    before = path.read_bytes()
    with pytest.raises(UnreachableError):
        renew(path)
    assert path.read_bytes() == before


def test_an_impostor(folder: Path, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    path = tmp_path / "client.toml"
    with Api(tmp_path / "other") as other:
        path.write_text(papers.enrolled(Authority.load(folder), "web1", port=other.port).text())
        with pytest.raises(ImpostorError):
            renew(path)
    assert other.requests == []


def test_an_answer_for_another_name(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def wrong(self: Authority, _certificate: bytes, request: str, _now: float | None = None) -> object:
        return self.redeem(papers.secret_of(self.make_token("web2", Role.HOST)), request)

    monkeypatch.setattr(Authority, "renew", wrong)
    with pytest.raises(CertificateError, match="for host web2: nothing was written"):
        renew(path)
    assert path.read_bytes() == before
