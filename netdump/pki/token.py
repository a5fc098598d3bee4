"""One-time enrolment tokens.

A token is what the operator carries from the collector to a host or desk: `ndt1.` and, in base64url without padding, a
version byte, the SHA-256 of the authority's certificate (so that the newcomer knows whom to trust) and a secret of 128
bits. The collector keeps one file per token, named by the SHA-256 of the secret; redeeming it renames that file, which
only one of any number of attempts can do, in whatever thread or process, before or after a restart.

What is wrong with a token is told to the collector's log only (`TokenError.detail`): a stranger learns nothing by
trying. Guessing 128 bits is hopeless; to keep strangers from filling logs and disks' queues, the server limits the rate
of attempts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netdump.errors import DamagedError, NetdumpError, PkiError, TokenError
from netdump.pki import durable, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from netdump.pki.role import Role

PREFIX = "ndt1."
VERSION = 1
SECRET_BYTES = 16
CA_DIGEST_BYTES = 32
TTL_MIN = 60  # seconds
TTL_MAX = 30 * 86400
TTL_DEFAULT = 86400
KEPT = 30 * 86400
"""Seconds after its expiry for which a token's file is kept, so that the log can say what became of it."""

SLACK = 3600
"""Seconds for which the clock may be put back behind a token, by NTP or by hand, without a word."""

FORMAT = "netdump-token/1"
FRESH = ".json"
USED = ".used"
REFUSAL = (
    "the token was used, has expired, or was never made here: make a new one on the collector with `netdump token`"
)


@dataclass(frozen=True, slots=True)
class Token:
    """What stands in a token.

    ca_digest: lower-case hexadecimal SHA-256 of the authority's certificate; secret: 16 bytes.
    """

    ca_digest: str
    secret: bytes

    def text(self) -> str:
        """Return the token as people carry it."""
        return PREFIX + _encode(bytes([VERSION]) + bytes.fromhex(self.ca_digest) + self.secret)

    def secret_text(self) -> str:
        """Return the part that is shown to the collector: the secret in base64url without padding."""
        return _encode(self.secret)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token on file is good for. created, expires: seconds since 1970 by the collector's clock."""

    path: Path
    role: Role
    name: str
    created: int
    expires: int


def parse_token(text: str) -> Token:
    """Read a token as typed or pasted; blanks around it do not matter. Raises TokenError."""
    stripped = text.strip()
    if not stripped.startswith(PREFIX):
        raise TokenError(f"this is not a netdump token: one begins with {PREFIX!r}, as `netdump token` prints it")
    try:
        body = _decode(stripped.removeprefix(PREFIX), 1 + CA_DIGEST_BYTES + SECRET_BYTES)
    except ValueError as error:
        raise TokenError(f"the token is damaged ({error}): copy the whole line that `netdump token` printed") from error
    if body[0] != VERSION:
        raise TokenError(
            f"the token is of version {body[0]}, which this netdump does not know: use the collector's netdump"
        )
    return Token(body[1 : 1 + CA_DIGEST_BYTES].hex(), body[1 + CA_DIGEST_BYTES :])


class TokenBook:
    """The tokens on file in one folder.

    Safe for threads and for several processes: all state is in the files. Methods block on the disk.
    """

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, role: Role, name: str, ttl_s: int, now: int) -> bytes:
        """Put a new token on file and return its secret.

        ttl_s: 1 minute to 30 days. Raises PkiError, StorageFaultError.
        """
        (secret,) = self.make_all(role, [name], ttl_s, now)
        return secret

    def make_all(self, role: Role, names: Iterable[str], ttl_s: int, now: int) -> Iterator[bytes]:
        """The same for many names, one after the other: a secret is on file when it is given. Raises what make does."""
        if not TTL_MIN <= ttl_s <= TTL_MAX:
            raise PkiError(f"a token can be good for 1 minute to 30 days, not for {ttl_s} s")
        self._prune(now)  # which reads all that are on file
        return (self._make(role, name, ttl_s, now) for name in names)

    def _make(self, role: Role, name: str, ttl_s: int, now: int) -> bytes:
        secret = secrets.token_bytes(SECRET_BYTES)
        fields = {"role": str(role), "name": name, "created": now, "expires": now + ttl_s}
        durable.write(self._folder / (_digest(secret) + FRESH), record.pack(FORMAT, fields))
        return secret

    def find(self, secret_text: str, now: int) -> Grant:
        """Return what an unused, unexpired token is good for, without using it.

        secret_text: anything from a stranger. Raises TokenError.
        """
        try:
            digest = _digest(_decode(secret_text, SECRET_BYTES))
        except ValueError as error:
            raise TokenError(REFUSAL, f"malformed secret ({error})") from error
        try:
            grant = self._read(self._folder / (digest + FRESH))
        except FileNotFoundError as error:
            raise TokenError(REFUSAL, self._epitaph(digest)) from error
        except DamagedError as error:
            raise TokenError(REFUSAL, f"its file is damaged: {error}") from error
        if now >= grant.expires:
            raise TokenError(
                REFUSAL, f"token for {grant.role} {grant.name} expired at {record.timestamp(grant.expires)}"
            )
        if now < grant.created - SLACK:
            # Or it would be good not for 30 days at most, but until the clock is there once more, years from now.
            raise TokenError(
                REFUSAL,
                f"token for {grant.role} {grant.name} was made later than now, at {record.timestamp(grant.created)}: "
                "the clock was ahead then, or is behind now",
            )
        return grant

    def consume(self, grant: Grant) -> None:
        """Use a token up, durably. Raises TokenError if somebody else did so first."""
        if not durable.rename(grant.path, grant.path.with_suffix(USED)):
            raise TokenError(REFUSAL, f"token for {grant.role} {grant.name} was used by another at the same moment")

    def withdraw(self, role: Role, name: str) -> int:
        """Use up all fresh tokens of one name.

        Returns how many; raises DamagedError, StorageFaultError or PkiError, after the others, if one cannot be read.
        """
        count = 0
        unreadable: NetdumpError | None = None
        for path in self._paths(FRESH):
            try:
                grant = self._read(path)
            except FileNotFoundError:
                continue
            except record.UNREADABLE as error:
                unreadable = error
                continue
            if (grant.role, grant.name) == (role, name):
                count += durable.rename(path, path.with_suffix(USED))
        if unreadable is not None:
            raise unreadable
        return count

    def _read(self, path: Path) -> Grant:
        fields = record.read(path, FORMAT)
        return Grant(
            path, record.role(fields, path), record.name(fields, path), record.number(fields, "created", path),
            record.number(fields, "expires", path),
        )  # fmt: skip

    def _epitaph(self, digest: str) -> str:
        try:
            grant = self._read(self._folder / (digest + USED))
        except FileNotFoundError:
            return "no such token: made elsewhere, removed, or a guess"
        except DamagedError:
            return "token was used before"
        return f"token for {grant.role} {grant.name} was used before"

    def _prune(self, now: int) -> None:
        for path in [*self._paths(FRESH), *self._paths(USED)]:
            try:
                old = self._read(path).expires + KEPT < now
            except (FileNotFoundError, *record.UNREADABLE):
                continue  # pruned by another process meanwhile; or left for the operator to look at
            if not old:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise durable.fault(error, "remove", path) from error

    def _paths(self, suffix: str) -> Iterator[Path]:
        names = [name for name in durable.names(self._folder) if name.endswith(suffix) and not name.startswith(".")]
        return (self._folder / name for name in names)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str, size: int) -> bytes:
    """Decode base64url without padding, only in its one canonical form.

    size: of the result, bytes. Raises ValueError, for people to read.
    """
    characters = -(-size * 8 // 6)
    if len(text) != characters:
        raise ValueError(f"{len(text)} characters where {characters} belong")
    if "+" in text or "/" in text:  # Python before 3.15 takes them for - and _, and 3.15 warns of them
        raise ValueError("a character that does not belong")
    try:
        data = base64.b64decode(text + "=" * (-characters % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a character that does not belong") from error
    if _encode(data) != text:
        raise ValueError("a character that does not belong")
    return data
