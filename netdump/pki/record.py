"""Small facts on file: sealed JSON (protocol/store.md section 2) with a role, a name and numbers in it.

Owns reading them back suspiciously: a file that is not what it should be raises DamagedError and names itself.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from netdump.errors import BadNameError, DamagedError, PkiError, StorageFaultError
from netdump.pki import durable
from netdump.pki.names import check_name
from netdump.pki.role import Role
from netdump.store.findings import DamageFoundError
from netdump.store.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD_MAX = 65536  # bytes
TIME_MAX = 253402300799  # the last second of the year 9999
UNREADABLE = (DamagedError, StorageFaultError, PkiError)  # what `read` raises for a file that is there


def timestamp(seconds: int) -> str:
    """Return a moment (seconds since 1970, up to the year 9999) as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pack(format_: str, fields: Mapping[str, object]) -> bytes:
    """Return the content of a record's file. format_: for example "netdump-token/1"."""
    return seal({"format": format_, **fields})


def read(path: Path, format_: str) -> dict[str, object]:
    """Return the fields of a record. Raises FileNotFoundError, DamagedError, StorageFaultError, PkiError."""
    return unsealed(durable.read(path, RECORD_MAX), format_, str(path))


def unsealed(data: bytes, format_: str, what: str) -> dict[str, object]:
    """Return the fields of sealed JSON without the seal. what: names it in messages. Raises DamagedError."""
    try:
        unseal(data, format_, what)
    except DamageFoundError as error:
        raise DamagedError(f"{what} is damaged: {error.finding.text}") from error
    fields: dict[str, object] = json.loads(data)
    del fields["sha256"]
    return fields


def text(fields: Mapping[str, object], key: str, path: Path) -> str:
    """Return a field that must be a string. path: for the message. Raises DamagedError."""
    value = fields.get(key)
    if not isinstance(value, str):
        raise DamagedError(f"{path}: {key} is missing or not a string")
    return value


def number(fields: Mapping[str, object], key: str, path: Path) -> int:
    """Return a field that must be a moment in seconds since 1970. path: for the message. Raises DamagedError."""
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= TIME_MAX:
        raise DamagedError(f"{path}: {key} is missing or not a moment")
    return value


def role(fields: Mapping[str, object], path: Path) -> Role:
    """Return the field `role`. path: for the message. Raises DamagedError."""
    value = text(fields, "role", path)
    if value not in set(Role):
        raise DamagedError(f"{path}: role is none of {', '.join(Role)}")
    return Role(value)


def name(fields: Mapping[str, object], path: Path) -> str:
    """Return the field `name`. path: for the message. Raises DamagedError."""
    try:
        return check_name(text(fields, "name", path))
    except BadNameError as error:
        raise DamagedError(f"{path}: {error}") from error
