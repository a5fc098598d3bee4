"""The folder `pki` of a collector: what lies where, and reading it.

::

    DIR/pki/                 0700, files 0600
      ca.crt  ca.key         the authority
      collector.crt  .key    what the collector shows to clients
      tokens/                token.py
      issued/  revoked/      ledger.py

Owns paths and file access, not what the contents mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.errors import NotACollectorError, PkiError
from netdump.pki import durable
from netdump.pki.certificates import PEM_MAX, PrivateKey, load_certificate, load_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

NAME = "pki"
SUBFOLDERS = ("tokens", "issued", "revoked")


class Folder:
    """The paths below one collector's folder. Keeps nothing else: every read is of what is there now."""

    __slots__ = (
        "ca_certificate",
        "ca_key",
        "collector_certificate",
        "collector_key",
        "directory",
        "issued",
        "revoked",
        "root",
        "tokens",
    )

    def __init__(self, directory: Path, name: str = NAME) -> None:
        self.directory = directory
        self.root = directory / name
        self.ca_certificate = self.root / "ca.crt"
        self.ca_key = self.root / "ca.key"
        self.collector_certificate = self.root / "collector.crt"
        self.collector_key = self.root / "collector.key"
        self.tokens = self.root / "tokens"
        self.issued = self.root / "issued"
        self.revoked = self.root / "revoked"

    def read_authority(self) -> x509.Certificate:
        """Return the authority's certificate.

        Raises NotACollectorError, CertificateError, StorageFaultError, PkiError.
        """
        try:
            pem = durable.read(self.ca_certificate, PEM_MAX)
        except FileNotFoundError as error:
            raise NotACollectorError(
                f"{self.directory} is not a collector's folder (no {NAME}/ca.crt): make one with `netdump init`"
            ) from error
        return load_certificate(pem, str(self.ca_certificate))

    def read_collector(self) -> x509.Certificate:
        """Return the collector's certificate. Raises CertificateError, StorageFaultError, PkiError."""
        return load_certificate(self._read(self.collector_certificate), str(self.collector_certificate))

    def read_key(self, path: Path, certificate: x509.Certificate | None = None) -> PrivateKey:
        """Return the private key in path, which must be that of the certificate, if one is given.

        Raises StorageFaultError, PkiError.
        """
        key = load_key(self._read(path), str(path))
        if certificate is not None and key.public_key() != certificate.public_key():
            raise PkiError(f"{path} is not the key of the certificate beside it: restore both from one backup")
        return key

    def _read(self, path: Path) -> bytes:
        try:
            return durable.read(path, PEM_MAX)
        except FileNotFoundError as error:
            raise PkiError(f"{path} is missing: restore it from a backup") from error
