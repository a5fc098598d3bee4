"""Enrolment, seen from the newcomer: a token and a URL become a bundle.

The token says whom to trust: the authority's certificate is fetched from whoever answers and believed only if its
SHA-256 is the token's. Then, on a second connection that is verified by that authority and the name in the URL, the
token's secret and a request are sent. The private key is made here and never leaves.
"""

from __future__ import annotations

import hmac
import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from netdump.client.address import Address
from netdump.errors import (
    AlreadyExistsError,
    CertificateError,
    ConfigError,
    ImpostorError,
    PkiError,
    StorageFaultError,
)
from netdump.pki import durable, https
from netdump.pki.answer import Answer, check_answer
from netdump.pki.bundle import Bundle, check_collectors
from netdump.pki.certificates import certificate_pem, check_library, key_pem, load_certificate, new_key
from netdump.pki.endpoint import Endpoint
from netdump.pki.identity import certificate_digest
from netdump.pki.names import check_name
from netdump.pki.request import make_request
from netdump.pki.role import Role
from netdump.pki.tls import unverified_context, verifying_context
from netdump.pki.token import Token, parse_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from netdump.errors import NetdumpError

ENROLL_PATH = "/v1/enroll"
BUNDLE_BYTES = 8192  # that a new one may have: some 2,000, and 16 addresses


def enroll(
    url: str,
    token: str,
    out: Path | Mapping[Role, Path],
    *,
    collectors: Sequence[str] = (),
    name: str | None = None,
    force: bool = False,
) -> Bundle:
    """Enrol with the collector whose API is at url and write the bundle to out (0600, its folder is made if need be).
    Returns it; its `origin` says where it is.

    out: a file, or one for each role, of which the token's is taken. Only the collector knows the role, after the token
    is spent; so none of the files may exist, and where the role's own cannot be written another of them is taken.

    token: as `netdump token` printed it. collectors: HOST:PORT to send dumps to, in order; none: as the collector says.
    name: refuse a token that is for another name. force: replace out if it exists. Nothing is sent before all that can
    be checked here has been, so that a token is not used up in vain. Raises AlreadyExistsError, ConfigError,
    TokenError, UnreachableError, ImpostorError, NameMismatchError, CertificateError, StorageFaultError and what else
    the collector answers; DependencyError for a cryptography that cannot read what would come back.
    """
    check_library()
    endpoint = Endpoint.parse(url)
    parsed = parse_token(token)
    chosen = check_collectors(list(collectors), "--collector") if collectors else ()
    wanted = None if name is None else check_name(name)
    places = dict.fromkeys(Role, out) if isinstance(out, Path) else dict(out)
    key = new_key()
    with ExitStack() as stack:
        drafts = _drafts(places, stack, force=force)
        authority = fetch_authority(endpoint, parsed)
        ca = certificate_pem(authority)
        body = {"token": parsed.secret_text(), "csr": make_request(key, wanted)}
        reply = https.call(endpoint, verifying_context(ca), "POST", ENROLL_PATH, body)
        answer = check_answer(https.parse_object(reply, endpoint), key, authority, endpoint.url)
        addresses = chosen or _addresses(answer, endpoint)
        draft = drafts.get(places[answer.role]) or next(iter(drafts.values()))
        bundle = Bundle(
            answer.name, answer.role, addresses, endpoint, ca, answer.certificate, key_pem(key), str(draft.path)
        )
        draft.publish(bundle.text().encode())
    return bundle


def fetch_authority(endpoint: Endpoint, token: Token) -> x509.Certificate:
    """Return the authority's certificate, from whoever answers, if it is the one that the token speaks of.

    Raises ImpostorError.
    """
    data = https.call(endpoint, unverified_context(), "GET", https.CA_PATH)
    try:
        authority = load_certificate(data, f"what {endpoint.url}{https.CA_PATH} holds")
    except CertificateError as error:
        raise ImpostorError(f"who answers at {endpoint.url} is no netdump collector: {error}") from error
    digest = certificate_digest(authority)
    if not hmac.compare_digest(digest, token.ca_digest):
        raise ImpostorError(
            f"who answers at {endpoint.url} is not the collector that made this token (its authority is "
            f"{digest[:16]}…, the token's {token.ca_digest[:16]}…): check the URL; the token's secret was not sent"
        )
    return authority


def _is_special(path: Path) -> bool:
    """Whether something has that name that root must not replace, /dev/null for instance."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False  # who opens the draft will say why
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def _drafts(places: Mapping[Role, Path], stack: ExitStack, *, force: bool) -> dict[Path, durable.Draft]:
    """Open a draft, in stack, of every file of places that can be written.

    Raises AlreadyExistsError for any that exists, with force for what is neither file nor link, and StorageFaultError
    or PkiError when none can be written.
    """
    paths = dict.fromkeys(places.values())
    for path in paths:
        if _is_special(path):
            raise AlreadyExistsError(f"{path} is not a file, and is never replaced: name another with --out")
        if not force and os.path.lexists(path):
            raise AlreadyExistsError(
                f"{path} exists: keep it, name another file with --out, or replace it with --force"
            )
    drafts: dict[Path, durable.Draft] = {}
    faults: list[NetdumpError] = []
    for path in paths:
        try:
            make_folder(path.parent)
            durable.remove_abandoned(path)
            draft = stack.enter_context(durable.Draft(path))
            draft.reserve(BUNDLE_BYTES)
            drafts[path] = draft
        except (PkiError, StorageFaultError) as error:
            faults.append(error)
    if not drafts:
        if len(faults) == 1:
            raise faults[0]
        told = "; ".join(map(str, faults))
        raise type(faults[0])(f"{told}; or name another file with --out") from faults[0]
    return drafts


def make_folder(path: Path) -> None:
    """Make the folder for a bundle, durably, if it is not there: 0700, for it will hold a key.

    Raises StorageFaultError, PkiError.
    """
    if os.path.isdir(path):  # which raises nothing
        return
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.sync_folder(path.parent)
    except OSError as error:
        raise durable.fault(error, "make", path) from error


def _addresses(answer: Answer, endpoint: Endpoint) -> tuple[str, ...]:
    if not answer.advertise:
        return (str(Address(endpoint.host, answer.ingest_port)),)
    try:
        return check_collectors(answer.advertise, endpoint.url)
    except ConfigError as error:
        raise ConfigError(f"{error}; correct `advertise` in the collector's settings, or use --collector") from error
