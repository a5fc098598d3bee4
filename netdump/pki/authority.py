"""The collector's own certificate authority: making it, and everything that is decided with its key.

All state is in the files of DIR/pki (folder.py, token.py, ledger.py), so any number of threads and processes may work
at once and a restart changes nothing. The authority's key is read for each signature and not kept. Methods block on the
disk: an event loop calls them in a thread, except `admit`, `admit_sender` and `is_revoked`, which take microseconds
(admit_sender reads a file where a certificate has ended).

Limiting how often strangers may try is the server's business.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509

from netdump.errors import (
    AlreadyExistsError,
    CertificateError,
    DamagedError,
    NetdumpError,
    PkiError,
    RevokedError,
    SigningRequestError,
)
from netdump.namedtuple import NamedTuple
from netdump.pki import durable
from netdump.pki.certificates import (
    Issuer,
    build_authority,
    build_client,
    build_collector,
    certificate_pem,
    check_library,
    issued_by,
    key_pem,
    new_key,
)
from netdump.pki.certificates import dates as validity_of
from netdump.pki.folder import NAME, SUBFOLDERS, Folder
from netdump.pki.identity import Identity, certificate_digest, fingerprint, peer_identity
from netdump.pki.ledger import IssuedCertificate, Ledger, Survey
from netdump.pki.names import check_name, parse_collector_names
from netdump.pki.own import collector_certificate
from netdump.pki.record import timestamp
from netdump.pki.request import check_request
from netdump.pki.token import TTL_DEFAULT, Token, TokenBook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from netdump.pki.role import Role


@dataclass(frozen=True, slots=True)
class Issue:
    """What a newcomer gets: its name and role, its certificate, and the authority's, both PEM.

    fingerprint: of its key, for the log.
    """

    name: str
    role: Role
    certificate: str
    ca: str
    fingerprint: str


def init_authority(directory: Path, names: Sequence[str], now: float | None = None) -> None:
    """Make DIR/pki: a new authority, and a certificate for the collector.

    names: domain names and IP addresses under which clients dial it, 1 to 32. All of it appears at once, or nothing
    does. now: seconds since 1970, None for the clock's. Raises AlreadyExistsError if DIR/pki exists, BadNameError,
    StorageFaultError, PkiError, DependencyError.
    """
    check_library()
    checked = parse_collector_names(names)
    moment = _moment(now)
    signer, key = new_key(), new_key()
    authority = build_authority(signer, moment)
    certificate = build_collector(checked, key.public_key(), Issuer(authority, signer), moment)
    draft = Folder(directory, f".{NAME}-{secrets.token_hex(6)}{durable.PARTIAL_SUFFIX}")
    final = directory / NAME
    if final.exists():
        raise _exists(final)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.root.mkdir(mode=0o700)
        for name in SUBFOLDERS:
            (draft.root / name).mkdir(mode=0o700)
        durable.write(draft.ca_key, key_pem(signer).encode())
        durable.write(draft.ca_certificate, certificate_pem(authority).encode())
        durable.write(draft.collector_key, key_pem(key).encode())
        durable.write(draft.collector_certificate, certificate_pem(certificate).encode())
        _give_name(draft.root, final)
        durable.sync_folder(directory)
        durable.sync_folder(directory.parent)
    except OSError as error:
        raise durable.fault(error, "make", final) from error
    finally:
        shutil.rmtree(draft.root, ignore_errors=True)  # gone already if all went well


def make_token(directory: Path, name: str, role: Role, ttl_s: int = TTL_DEFAULT, now: float | None = None) -> str:
    """Make a one-time token for name and role, good for ttl_s seconds (1 minute to 30 days), and return its text.

    Raises BadNameError, NotACollectorError, StorageFaultError, PkiError.
    """
    return Authority.load(directory).make_token(name, role, ttl_s, now)


class Sender(NamedTuple):
    """Who uploads, and since when its certificate is good, seconds since 1970."""

    identity: Identity
    since: float


class Authority:
    """The authority in one collector's folder. `now` arguments: seconds since 1970; None takes the clock's."""

    __slots__ = ("_certificate", "_folder", "_ledger", "_tokens", "ca_fingerprint", "ca_pem")

    def __init__(self, folder: Folder, certificate: x509.Certificate) -> None:
        self._folder = folder
        self._certificate = certificate
        self._tokens = TokenBook(folder.tokens)
        self._ledger = Ledger(folder.issued, folder.revoked)
        self.ca_pem = certificate_pem(certificate)
        self.ca_fingerprint = certificate_digest(certificate)

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Find the authority of the collector whose folder is directory.

        Raises NotACollectorError, CertificateError, PkiError.
        """
        folder = Folder(directory)
        return cls(folder, folder.read_authority())

    def collector_names(self) -> tuple[str, ...]:
        """Return the names and addresses in the collector's certificate, the collector's own name first.

        Raises CertificateError, PkiError.
        """
        return collector_certificate(self._folder.directory).names

    def make_token(self, name: str, role: Role, ttl_s: int = TTL_DEFAULT, now: float | None = None) -> str:
        """See the function make_token."""
        (token,) = self.make_tokens([name], role, ttl_s, now)
        return token

    def make_tokens(
        self, names: Iterable[str], role: Role, ttl_s: int = TTL_DEFAULT, now: float | None = None
    ) -> Iterator[str]:
        """The same for many names, one token after the other. No token is made if a name is bad (BadNameError)."""
        checked = [check_name(name) for name in names]
        made = self._tokens.make_all(role, checked, ttl_s, int(_moment(now).timestamp()))
        return (Token(self.ca_fingerprint, secret).text() for secret in made)

    def withdraw_tokens(self, name: str, role: Role) -> int:
        """Make all unused tokens of one name and role worthless.

        Returns how many. Raises DamagedError, StorageFaultError, PkiError.
        """
        return self._tokens.withdraw(role, check_name(name))

    def redeem(self, secret: str, request: str, now: float | None = None) -> Issue:
        """Give a stranger a certificate for its token and its request.

        secret: the token's secret in base64url, request: PEM, both as they came from the network, any length or
        content. The token is used up once the certificate is on record; a bad request leaves it good. Raises
        TokenError (tell its detail to nobody but the log), SigningRequestError, NameMismatchError, RevokedError; and,
        with nothing issued, CertificateError, StorageFaultError, PkiError.
        """
        moment = _moment(now)
        grant = self._tokens.find(secret, int(moment.timestamp()))
        key = check_request(request, grant.role, grant.name)
        self._refuse_revoked(fingerprint(key))
        # Signed before the token is used up: an authority that cannot sign must not cost a token.
        certificate = build_client(grant.role, grant.name, key, self._issuer(), moment)
        # On record before the token is used up: who withdraws tokens and then revokes the name's keys either finds the
        # token still there, or this key.
        issue = self._issue(grant.role, grant.name, certificate, moment)
        try:
            self._tokens.consume(grant)
        except NetdumpError:
            self._ledger.forget(certificate)
            raise
        return issue

    def renew(self, certificate: bytes, request: str, now: float | None = None) -> Issue:
        """Give the holder of a valid certificate another one for the same name and role and a new key. The old one
        stays as it is.

        certificate: DER, as TLS proved that the peer holds its key. request: PEM from the network. Raises
        CertificateError, RevokedError, SigningRequestError, NameMismatchError, StorageFaultError, PkiError.
        """
        moment = _moment(now)
        holder = self.admit(certificate, now)
        presented = x509.load_der_x509_certificate(certificate)
        if not issued_by(presented, self._certificate):
            raise CertificateError("the certificate was not issued by this collector's authority")
        key = check_request(request, holder.role, holder.name)
        if fingerprint(key) == holder.fingerprint:
            raise SigningRequestError(f"{holder.name} must renew with a new key, not the one it has")
        self._refuse_revoked(fingerprint(key))
        # From before a loss of the record, or of another collector of this authority: else `revoke --host` would end
        # the new key and leave the old one, which stays as it is.
        if not self._ledger.has(presented):
            issued = validity_of(presented).first.timestamp()
            self._ledger.record(holder.role, holder.name, presented, max(0, int(issued)))
        renewed = build_client(holder.role, holder.name, key, self._issuer(), moment)
        issue = self._issue(holder.role, holder.name, renewed, moment)
        if self._ledger.is_revoked(holder.fingerprint):
            # Revoked since it was admitted, by somebody who may not have seen the new key.
            self._ledger.revoke(fingerprint(key), int(moment.timestamp()))
            self._refuse_revoked(holder.fingerprint)
        return issue

    def admit(self, certificate: bytes | None, now: float | None = None) -> Identity:
        """Say who a peer is, from the certificate that TLS has verified (DER; None if it showed none), or refuse it.

        TLS has not looked at the dates (tls.py); they are checked here. Called at every accept [W-04]; takes some
        100 µs. Raises CertificateError, RevokedError, and PkiError or StorageFaultError if revocation cannot be looked
        up: then, too, the peer must not come in.
        """
        identity, presented = self._recognise(certificate)
        _check_dates(presented, identity.name, _moment(now))
        return identity

    def admit_sender(self, certificate: bytes | None, now: float | None = None) -> Sender:
        """The same for who only uploads: a clock that cannot be right keeps no crashed machine out [W-04].

        That the certificate is not valid yet is no reason: it was made here, by this clock. That it has expired is
        one, unless there is a clock_fault. Raises as admit does.
        """
        identity, presented = self._recognise(certificate)
        moment, validity = _moment(now), validity_of(presented)
        if moment > validity.last and self.clock_fault(moment.timestamp()) is None:
            _check_dates(presented, identity.name, moment)
        return Sender(identity, validity.first.timestamp())

    def clock_fault(self, now: float | None = None) -> str | None:
        """Why it cannot be now: the authority, or the collector's certificate, is not good at that time. None: it can.

        Raises PkiError, StorageFaultError.
        """
        moment = _moment(now)
        try:
            own = self._folder.read_collector()
        except CertificateError as error:  # the collector's, and no word on any host's
            raise PkiError(str(error)) from error
        again = ", unless the clock was ahead then (if so, run `netdump renew --collector`)"
        for whose, certificate, remedy in (
            ("authority", self._certificate, ""),
            ("certificate", own, again),
        ):
            first, last = validity_of(certificate)
            if moment < first:
                return f"the collector's {whose} was made later, on {first:%Y-%m-%d}{remedy}"
            if moment > last:
                return f"the collector's {whose} ended on {last:%Y-%m-%d}"
        return None

    def check_issuing(self) -> None:
        """Find out whether anybody can enroll or renew now. Raises PkiError, NotACollectorError, StorageFaultError."""
        if self._folder.read_authority() != self._certificate:
            raise PkiError(
                f"{self._folder.ca_certificate} is another authority's than at the start of this collector, which "
                "still issues by that one: restart it"
            )
        self._issuer()
        for folder in (self._folder.issued, self._folder.tokens):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PkiError(
                    f"{folder} is missing, or cannot be written: restore it from a backup, or make it, for the "
                    "user whom the rest belongs to"
                )

    def is_revoked(self, key: str) -> bool:
        """See Ledger.is_revoked. key: fingerprint."""
        return self._ledger.is_revoked(key)

    def has_issued(self, key: str) -> bool:
        """Whether a certificate of that key was issued here. key: fingerprint. Raises StorageFaultError, PkiError."""
        return self._ledger.has_issued(key)

    def issued(self) -> Survey:
        """Return all certificates issued so far, newest first. Raises StorageFaultError, PkiError."""
        return self._ledger.survey()

    def revoke(self, key: str, now: float | None = None) -> bool:
        """Revoke a key by its fingerprint, whether issued here or not.

        Returns False if it was revoked before. Durable on return.
        """
        return self._ledger.revoke(key, int(_moment(now).timestamp()))

    def revoke_name(self, name: str, role: Role, now: float | None = None) -> list[IssuedCertificate]:
        """Revoke the keys of all certificates issued so far for name and role, and return those that were not revoked
        before.

        Raises DamagedError, after revoking what it found, if a record cannot be read and so might have been one of
        them.
        """
        moment = int(_moment(now).timestamp())
        revoked: list[IssuedCertificate] = []
        while True:
            survey = self._ledger.survey()
            mine = [each for each in survey.certificates if (each.role, each.name) == (role, name)]
            found = [each for each in mine if self._ledger.revoke(each.fingerprint, moment)]
            revoked += found
            # Once more after each find: a renewal under way puts its key on record, then looks whether the old one is
            # revoked. If it saw that it was not, its key is on record by now.
            if not found:
                break
        if survey.damaged:
            raise DamagedError(
                f"{len(revoked)} keys of {name} are revoked now, but {len(survey.damaged)} records are damaged and "
                f"might be others of {name}; revoke those by the fingerprint in the path: {'; '.join(survey.damaged)}"
            )
        return revoked

    def _recognise(self, certificate: bytes | None) -> tuple[Identity, x509.Certificate]:
        """Whose certificate (DER) it is, and that it is not revoked. Raises as admit does."""
        if certificate is None:
            raise CertificateError("this needs a client certificate: enroll with `netdump enroll`")
        identity = peer_identity(certificate)
        self._refuse_revoked(identity.fingerprint)
        return identity, x509.load_der_x509_certificate(certificate)

    def _refuse_revoked(self, key: str) -> None:
        if self._ledger.is_revoked(key):
            raise RevokedError(f"the key {key[:16]}… was revoked: enroll again with a new token")

    def _issuer(self) -> Issuer:
        return Issuer(self._certificate, self._folder.read_key(self._folder.ca_key, self._certificate))

    def _issue(self, role: Role, name: str, certificate: x509.Certificate, moment: datetime) -> Issue:
        # On record before it leaves, so that `revoke --host` finds every certificate that anybody may hold.
        self._ledger.record(role, name, certificate, int(moment.timestamp()))
        return Issue(name, role, certificate_pem(certificate), self.ca_pem, fingerprint(certificate.public_key()))


def _check_dates(certificate: x509.Certificate, name: str, moment: datetime) -> None:
    """Raises CertificateError. Both ends are within the validity (RFC 5280, 4.1.2.5)."""
    start, end = validity_of(certificate)
    if moment > end:
        raise CertificateError(
            f"the certificate of {name} expired at {_text(end)}: enroll again with a new token; "
            "if that is still to come, set the collector's clock right"
        )
    if moment < start:
        raise CertificateError(
            f"the certificate of {name} is not valid before {_text(start)}, and here it is {_text(moment)}: "
            "set the collector's clock right, or enroll again with a new token"
        )


def _text(moment: datetime) -> str:
    return timestamp(int(moment.timestamp()))


def _give_name(draft: Path, final: Path) -> None:
    # rename(2) never replaces a folder that is not empty, so of two inits at once one wins.
    try:
        draft.rename(final)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise _exists(final) from error
        raise


def _exists(final: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{final} exists already: a new authority would lock out every host enrolled so far")


def _moment(now: float | None) -> datetime:
    return datetime.fromtimestamp(int(time.time() if now is None else now), UTC)
