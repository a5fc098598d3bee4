"""The folder pki: what is there is read, what is not is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import CertificateError, NotACollectorError, PkiError
from netdump.pki.certificates import key_pem, new_key
from netdump.pki.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path


def test_reading(folder: Path) -> None:
    place = Folder(folder)
    authority, collector = place.read_authority(), place.read_collector()
    assert place.read_key(place.ca_key, authority).public_key() == authority.public_key()
    assert place.read_key(place.collector_key, collector).public_key() == collector.public_key()


def test_not_a_collector(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(NotACollectorError, match="netdump init"):
            Folder(directory).read_authority()


def test_missing_files_are_named(folder: Path) -> None:
    place = Folder(folder)
    authority = place.read_authority()
    place.ca_key.unlink()
    with pytest.raises(PkiError, match=r"ca\.key is missing"):
        place.read_key(place.ca_key, authority)
    place.collector_certificate.unlink()
    with pytest.raises(PkiError, match=r"collector\.crt is missing"):
        place.read_collector()


def test_damaged_files_are_named(folder: Path) -> None:
    place = Folder(folder)
    authority = place.read_authority()
    place.ca_key.write_text(key_pem(new_key()))
    with pytest.raises(PkiError, match=r"ca\.key is not the key of the certificate"):
        place.read_key(place.ca_key, authority)
    place.ca_key.write_text("nonsense")
    with pytest.raises(PkiError, match=r"ca\.key is not a private key"):
        place.read_key(place.ca_key, authority)
    place.ca_certificate.write_text("nonsense")
    with pytest.raises(CertificateError, match=r"ca\.crt is not a certificate"):
        place.read_authority()
