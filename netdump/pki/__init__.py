"""The one doorway to cryptography: the authority, enrolment, TLS contexts, identities, receipts.

What a collector needs is named here, and loaded when it is asked for: whoever only talks to a collector does without
`cryptography`, which takes 35 ms to load. The newcomer's side is in netdump.pki.enroll and netdump.pki.renew. No other
package imports `cryptography`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netdump.pki.authority import Authority as Authority
    from netdump.pki.authority import Issue as Issue
    from netdump.pki.authority import init_authority as init_authority
    from netdump.pki.authority import make_token as make_token
    from netdump.pki.bundle import Bundle as Bundle
    from netdump.pki.identity import Identity as Identity
    from netdump.pki.identity import peer_identity as peer_identity
    from netdump.pki.ledger import IssuedCertificate as IssuedCertificate
    from netdump.pki.own import OwnCertificate as OwnCertificate
    from netdump.pki.own import authority_certificate as authority_certificate
    from netdump.pki.own import collector_certificate as collector_certificate
    from netdump.pki.own import reissue_collector as reissue_collector
    from netdump.pki.receipt import check_receipt as check_receipt
    from netdump.pki.receipt import sign_receipt as sign_receipt
    from netdump.pki.role import Role as Role
    from netdump.pki.tls import api_server_context as api_server_context
    from netdump.pki.tls import client_context as client_context
    from netdump.pki.tls import ingest_server_context as ingest_server_context
else:
    _HOMES = {
        "Authority": "authority",
        "Issue": "authority",
        "init_authority": "authority",
        "make_token": "authority",
        "Bundle": "bundle",
        "Identity": "identity",
        "peer_identity": "identity",
        "IssuedCertificate": "ledger",
        "OwnCertificate": "own",
        "authority_certificate": "own",
        "collector_certificate": "own",
        "reissue_collector": "own",
        "check_receipt": "receipt",
        "sign_receipt": "receipt",
        "Role": "role",
        "api_server_context": "tls",
        "client_context": "tls",
        "ingest_server_context": "tls",
    }

    def __getattr__(name):  # PEP 562
        if name not in _HOMES:
            raise AttributeError(f"{__name__} has no {name}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
