"""The one doorway to cryptography: the authority, enrolment, TLS contexts, identities, receipts.

What a collector needs is named here; the newcomer's side is in netdump.pki.enroll and netdump.pki.renew. No other
package imports `cryptography`.
"""

from netdump.pki.authority import Authority, Issue, init_authority, make_token, reissue_collector
from netdump.pki.bundle import Bundle
from netdump.pki.identity import Identity, Role, peer_identity
from netdump.pki.ledger import IssuedCertificate
from netdump.pki.receipt import check_receipt, sign_receipt
from netdump.pki.tls import api_server_context, client_context, ingest_server_context

__all__ = [
    "Authority",
    "Bundle",
    "Identity",
    "Issue",
    "IssuedCertificate",
    "Role",
    "api_server_context",
    "check_receipt",
    "client_context",
    "ingest_server_context",
    "init_authority",
    "make_token",
    "peer_identity",
    "reissue_collector",
    "sign_receipt",
]
