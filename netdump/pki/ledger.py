"""What was issued and what was revoked, one small file per fact.

issued/FINGERPRINT.SERIAL.json: a certificate, recorded before it is handed out. revoked/FINGERPRINT: that key is not
welcome any more; the file being there is what counts, not its content, so that asking costs two system calls and the
answer holds from the next connection on, in every process. Both names are hexadecimal digits made here; no name of a
peer is in them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netdump.errors import DamagedError, PkiError
from netdump.pki import durable, record
from netdump.pki.certificates import certificate_pem
from netdump.pki.identity import fingerprint

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from netdump.pki.role import Role

ISSUED_FORMAT = "netdump-issued/1"
REVOKED_FORMAT = "netdump-revoked/1"
ISSUED_SUFFIX = ".json"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_RECORD = re.compile(r"[0-9a-f].*" + re.escape(ISSUED_SUFFIX))  # drafts begin with a dot


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate on record.

    Times: seconds since 1970. serial: hexadecimal. revoked: when its key was revoked, or None.
    """

    role: Role
    name: str
    fingerprint: str
    serial: str
    issued: int
    not_before: int
    not_after: int
    revoked: int | None
    pem: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All of a ledger: certificates, newest first, and what is wrong with the records that cannot be read."""

    certificates: tuple[IssuedCertificate, ...]
    damaged: tuple[str, ...]


def check_fingerprint(text: str) -> str:
    """Return a key's fingerprint in its one form, 64 lower-case hexadecimal digits; colons and capitals are accepted.

    Raises PkiError.
    """
    plain = text.strip().replace(":", "").lower()
    if _FINGERPRINT.fullmatch(plain):
        return plain
    raise PkiError("a fingerprint is 64 hexadecimal digits, as `netdump certificates` shows them")


class Ledger:
    """Issued certificates and revoked keys of one authority.

    Safe for threads and for several processes: all state is in the files.
    """

    __slots__ = ("_issued", "_revoked")

    def __init__(self, issued: Path, revoked: Path) -> None:
        self._issued = issued
        self._revoked = revoked

    def record(self, role: Role, name: str, certificate: x509.Certificate, now: int) -> None:
        """Put a certificate on record, durably. now: seconds since 1970. Raises StorageFaultError, PkiError."""
        fields = {
            "role": str(role),
            "name": name,
            "issued": now,
            "not_before": _seconds(certificate.not_valid_before_utc),
            "not_after": _seconds(certificate.not_valid_after_utc),
            "certificate": certificate_pem(certificate),
        }
        durable.write(self._path(certificate), record.pack(ISSUED_FORMAT, fields))

    def has(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is on record, readable or not."""
        return os.path.exists(self._path(certificate))  # which raises nothing: who records will

    def forget(self, certificate: x509.Certificate) -> None:
        """Take a certificate off the record: nobody was given it. Not made durable. Raises StorageFaultError, PkiError.

        Should it come back after a power cut, one more certificate is on record than was handed out.
        """
        path = self._path(certificate)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise durable.fault(error, "remove", path) from error

    def survey(self) -> Survey:
        """Read all records: some milliseconds per hundred.

        Raises StorageFaultError, PkiError where it cannot be told which there are, or who is revoked.
        """
        certificates = []
        damaged = []
        for name in durable.names(self._issued):
            if not _RECORD.fullmatch(name):
                continue
            try:
                each = self._read(self._issued / name)
            except FileNotFoundError:
                continue  # removed by the operator meanwhile
            except record.UNREADABLE as error:
                damaged.append(str(error))
                continue
            certificates.append(replace(each, revoked=self._when_revoked(each.fingerprint)))
        certificates.sort(key=lambda each: (-each.issued, each.role, each.name, each.serial))
        return Survey(tuple(certificates), tuple(sorted(damaged)))

    def has_issued(self, key: str) -> bool:
        """Whether a certificate of that key is on record, readable or not. key: fingerprint. Raises as survey does."""
        start = check_fingerprint(key) + "."
        return any(name.startswith(start) for name in durable.names(self._issued))

    def revoke(self, key: str, now: int) -> bool:
        """Revoke a key, known or not, durably.

        key: fingerprint. Returns False if it was revoked already. Raises StorageFaultError, PkiError.
        """
        path = self._revoked / check_fingerprint(key)
        if self.is_revoked(key):
            return False
        durable.write(path, record.pack(REVOKED_FORMAT, {"fingerprint": path.name, "revoked": now}))
        return True

    def is_revoked(self, key: str) -> bool:
        """Whether a key must not be let in. key: 64 lower-case hexadecimal digits. Some microseconds; may be called on
        an event loop.

        Raises PkiError where it cannot be told (the folder is missing or unreadable): whoever asks must then refuse.
        """
        path = self._revoked / check_fingerprint(key)
        try:
            path.lstat()
        except FileNotFoundError:
            # Without its folder every key would look welcome, for example after a restore that forgot it.
            if not self._revoked.is_dir():
                raise PkiError(
                    f"{self._revoked} is missing, so nobody can be let in: restore it from a backup"
                ) from None
            return False
        except OSError as error:
            raise durable.fault(error, "read", path) from error
        return True

    def _path(self, certificate: x509.Certificate) -> Path:
        serial = f"{certificate.serial_number:x}"
        return self._issued / f"{fingerprint(certificate.public_key())}.{serial}{ISSUED_SUFFIX}"

    def _read(self, path: Path) -> IssuedCertificate:
        """A record, without a word on whether its key is revoked."""
        fields = record.read(path, ISSUED_FORMAT)
        key, _, serial = path.name.removesuffix(ISSUED_SUFFIX).partition(".")
        if not _FINGERPRINT.fullmatch(key):
            raise DamagedError(f"{path}: the file's name is not a fingerprint and a serial number")
        return IssuedCertificate(
            role=record.role(fields, path),
            name=record.name(fields, path),
            fingerprint=key,
            serial=serial,
            issued=record.number(fields, "issued", path),
            not_before=record.number(fields, "not_before", path),
            not_after=record.number(fields, "not_after", path),
            revoked=None,
            pem=record.text(fields, "certificate", path),
        )

    def _when_revoked(self, key: str) -> int | None:
        if not self.is_revoked(key):
            return None
        path = self._revoked / key
        try:
            return record.number(record.read(path, REVOKED_FORMAT), "revoked", path)
        except (FileNotFoundError, *record.UNREADABLE):
            return 0  # revoked all the same; an operator may have made the file with touch(1)


def _seconds(moment: datetime) -> int:
    # A certificate of the first day of 1970, where a clock without a battery begins, is dated back to before it.
    return max(0, int(moment.timestamp()))
