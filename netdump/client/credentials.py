"""The TLS context of the sender, made from the texts of its bundle.

Owns which TLS is spoken and what is checked of the collector's certificate: version 1.3 only, the bundle's authority,
the name that was dialled; not the dates, because the clock of a capture kernel is not to be trusted ([W-01], [W-02],
[W-03]).
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from netdump.errors import BundleError
from netdump.wire import ALPN

if TYPE_CHECKING:
    from netdump.client.config import Credentials

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL (include/openssl/x509_vfy.h, since 1.1.0). Python has no name for it.
NO_CHECK_TIME = 0x200000
# X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH of the same: what ssl gives as verify_code.
NAME_MISMATCH = frozenset({62, 64})


def client_context(credentials: Credentials, path: str) -> ssl.SSLContext:
    """Make the context for every connection. path: the bundle, for messages. Raises BundleError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.verify_flags |= NO_CHECK_TIME
    context.set_alpn_protocols([ALPN])
    try:
        context.load_verify_locations(cadata=credentials.ca)
    except (ssl.SSLError, ValueError) as error:
        raise BundleError(f"{path}: ca of [tls] is damaged ({_reason(error)}): enroll this host again") from error
    _load_key(context, credentials, path)
    return context


def _load_key(context: ssl.SSLContext, credentials: Credentials, path: str) -> None:
    """Load certificate and key. OpenSSL reads them from a file only, so they get one that never touches a disk."""
    descriptor = -1
    try:
        descriptor = os.memfd_create("netdump-key", os.MFD_CLOEXEC)
        with open(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(f"{credentials.certificate}\n{credentials.key}\n")
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise BundleError(
            f"{path}: certificate or key of [tls] is damaged ({_reason(error)}): enroll this host again"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{path}: the key cannot be handed to OpenSSL ({error.strerror}): /proc must be mounted"
        ) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _no_password() -> str:
    """Answer for an encrypted key: without this OpenSSL would ask on the terminal and wait for ever."""
    return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
