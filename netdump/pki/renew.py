"""Renewal, seen from the holder of a bundle: a new key and certificate for the same name, in the same file.

The old key stays good until its certificate ends, so a capture image that carries the older bundle still delivers.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from netdump.errors import BundleError, CertificateError
from netdump.pki import durable, https
from netdump.pki.answer import check_answer
from netdump.pki.bundle import Bundle, exchange, parse_bundle, read_text
from netdump.pki.certificates import age, dates, key_pem, load_certificate, new_key
from netdump.pki.request import make_request
from netdump.pki.tls import client_context

RENEW_PATH = "/v1/renew"
GROWTH_BYTES = 4096  # by which a bundle may become longer


def renew(path: Path, *, if_older_than: float = 0.0, now: float | None = None) -> Bundle | None:
    """Renew the certificate in the bundle at path; return the new bundle, or None if the certificate is young enough.

    if_older_than: the share of its life, 0 to 1, that must be over. now: seconds since 1970, None for the clock's.
    Everything else in the file stays as it is; it is replaced at once or not at all; a link to it stays one, and a file
    that root renews stays its owner's. Raises CertificateError for a certificate that has ended already,
    ConfigMissingError, ConfigError, BundleError, UnreachableError, ImpostorError, StorageFaultError and what else the
    collector answers.
    """
    path = Path(os.path.realpath(path))  # which says nothing of links that lead in a circle: reading does
    text = read_text(path)
    bundle = parse_bundle(text, str(path))
    certificate = load_certificate(bundle.certificate, f"certificate of {path}")
    over = age(dates(certificate), datetime.fromtimestamp(time.time() if now is None else now, UTC))
    if over >= 1:
        raise CertificateError(
            f"the certificate of {bundle.name} ended on {certificate.not_valid_after_utc:%Y-%m-%d} and cannot be "
            "renewed: enroll again with a new token"
        )
    if over < if_older_than:
        return None
    key = new_key()
    authority = load_certificate(bundle.ca, f"ca of {path}")
    context = client_context(bundle)
    durable.remove_abandoned(path)
    with durable.Draft(path) as draft:
        if os.geteuid() == 0:  # for a person, say, who could not read it any more
            draft.give_to_owner(path)
        draft.reserve(len(text.encode()) + GROWTH_BYTES)
        # Tried with stand-ins first: a file that cannot be changed in place must not cost a certificate.
        exchange(text, bundle, bundle.renewed("-----BEGIN NEW-----", "-----BEGIN NEW KEY-----"))
        reply = https.call(bundle.api, context, "POST", RENEW_PATH, {"csr": make_request(key)})
        answer = check_answer(https.parse_object(reply, bundle.api), key, authority, bundle.api.url)
        if (answer.role, answer.name) != (bundle.role, bundle.name):
            raise CertificateError(
                f"{bundle.api.url} sent a certificate for {answer.role} {answer.name}: nothing was written"
            )
        # Read again: an administrator may have changed a setting meanwhile, or enrolled anew.
        text = read_text(path)
        latest = parse_bundle(text, str(path))
        if latest.key != bundle.key:
            raise BundleError(f"{path} got another key while this one was renewed: nothing was written")
        renewed = latest.renewed(answer.certificate, key_pem(key))
        draft.publish(exchange(text, latest, renewed).encode())
    return renewed
