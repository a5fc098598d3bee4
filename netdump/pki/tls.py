"""TLS contexts of the collector and of the analyst's commands.

One profile (protocol/wire.md section 2): TLS 1.3 only; no session tickets, for a resumed session would skip the check
for revocation; no early data, which Python's ssl does not offer; the netdump authority and no other; strict X.509
rules. The sender in the capture kernel has its own context (netdump/client/credentials.py), which ignores dates.

What a context cannot check, whoever uses it must: the ALPN that was agreed on [W-02] (Python's ssl goes on without one
when the peer's list does not match), and role and revocation of a client (Authority.admit) [W-04]. Of a client, it
leaves the dates to Authority.admit, too: that can say what is wrong, while an alert is a number, if it arrives at all.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from netdump.client.credentials import NO_CHECK_TIME
from netdump.errors import BundleError, PkiError
from netdump.wire import ALPN

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.pki.bundle import Bundle

HTTP_ALPN = "http/1.1"


def ingest_server_context(directory: Path) -> ssl.SSLContext:
    """Make the context in which hosts are received: they must show a certificate of our authority.

    Dates are for Authority.admit. Raises PkiError.
    """
    return _server_context(directory, ssl.CERT_REQUIRED, ALPN)


def api_server_context(directory: Path) -> ssl.SSLContext:
    """Make the context of the HTTPS API: a client certificate may be missing (enrolment), but a bad one is refused.

    Dates are for Authority.admit. Raises PkiError.
    """
    return _server_context(directory, ssl.CERT_OPTIONAL, HTTP_ALPN)


def client_context(bundle: Bundle) -> ssl.SSLContext:
    """Make the context in which an analyst, or a host that renews, talks to the API.

    Dates, authority and name of the collector are checked. Raises BundleError.
    """
    context = verifying_context(bundle.ca)
    fd = -1
    try:
        # OpenSSL reads keys from files only; this one never touches a disk.
        fd = os.memfd_create("netdump-key", os.MFD_CLOEXEC)
        with open(fd, "w", encoding="ascii", closefd=False) as file:
            file.write(f"{bundle.certificate}\n{bundle.key}\n")
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise BundleError(
            f"{bundle.origin}: certificate and key cannot be used together ({_reason(error)}): enroll again"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{bundle.origin}: the key cannot be handed to OpenSSL ({error.strerror}): /proc must be mounted"
        ) from error
    finally:
        if fd >= 0:
            os.close(fd)
    return context


def verifying_context(ca: str) -> ssl.SSLContext:
    """Make a client's context without a certificate of its own.

    ca: PEM of the authority, the only one trusted. Raises BundleError.
    """
    context = _bare_client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise BundleError(f"the authority's certificate cannot be used ({_reason(error)}): enroll again") from error
    return context


def unverified_context() -> ssl.SSLContext:
    """Make a client's context that takes anybody for the collector.

    For fetching the authority's certificate alone, which the token then vouches for.
    """
    context = _bare_client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _bare_client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([HTTP_ALPN])
    context.hostname_checks_common_name = False
    return context


def _server_context(directory: Path, mode: ssl.VerifyMode, alpn: str) -> ssl.SSLContext:
    from netdump.pki.folder import Folder  # noqa: PLC0415 - a client's context does without certificates

    folder = Folder(directory)
    folder.read_authority()  # for the clear errors of a folder that is not a collector's
    folder.read_key(folder.collector_key, folder.read_collector())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = mode
    context.verify_flags |= ssl.VERIFY_X509_STRICT | NO_CHECK_TIME
    context.set_alpn_protocols([alpn])
    try:
        context.load_verify_locations(cafile=folder.ca_certificate)
        context.load_cert_chain(folder.collector_certificate, folder.collector_key, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise PkiError(f"the certificates in {folder.root} cannot be used: {_reason(error)}") from error
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal for the password of an encrypted key.
    return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if isinstance(reason, str) else str(error)
