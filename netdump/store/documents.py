"""The small files of a dump, read back and held against each other: origin, headline, manifest, receipt.

Owns which of them must agree on what. Must not write, or look at segments.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from netdump.errors import DumpNotFoundError, RemoteProtocolError
from netdump.store.durable import read_whole
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.layout import HEADLINE, MANIFEST, ORIGIN, RECEIPT
from netdump.store.manifest import MANIFEST_BYTES_MAX, Manifest
from netdump.store.origin import ORIGIN_BYTES_MAX, Origin
from netdump.store.sealed import unseal
from netdump.wire import HEADLINE_RAW_MAX, RECEIPT_MAX, HeadlineDocument, unpack_document

if TYPE_CHECKING:
    from netdump.store.files import Files

RECEIPT_FORMAT: Final = "netdump-receipt/1"


def find_origin(files: Files, dump_id: str) -> Origin | None:
    """The origin of a dump; None if it has none yet. Raises DamageFoundError, OSError."""
    data = read_whole(files, f"{dump_id}/{ORIGIN}", ORIGIN_BYTES_MAX)
    return None if data is None else Origin.parse(data, dump_id)


def read_origin(files: Files, dump_id: str) -> Origin:
    """The origin of a dump. Raises DumpNotFoundError, DamageFoundError, OSError."""
    origin = find_origin(files, dump_id)
    if origin is None:
        raise DumpNotFoundError(f"there is no dump {dump_id} in this store")
    return origin


def read_manifest(files: Files, dump_id: str, origin: Origin | None) -> Manifest | None:
    """The manifest of a dump; None if it is not complete. origin: what it must agree with; None: that is damaged.

    Raises DamageFoundError, OSError.
    """
    data = read_whole(files, f"{dump_id}/{MANIFEST}", MANIFEST_BYTES_MAX)
    if data is None:
        return None
    manifest = Manifest.parse(data, dump_id)
    if origin is not None and (manifest.host, manifest.image_bytes) != (origin.host, origin.image_bytes):
        raise DamageFoundError(
            Finding(Damage.CONTENT, MANIFEST, None, "host or image size are not those of the origin")
        )
    return manifest


def read_headline(files: Files, dump_id: str) -> bytes | None:
    """The raw headline document; None if there is none. Raises DamageFoundError for a file too large, OSError."""
    return read_whole(files, f"{dump_id}/{HEADLINE}", HEADLINE_RAW_MAX)


def parse_headline(raw: bytes, manifest: Manifest | None) -> HeadlineDocument:
    """The headline document, checked against the manifest if there is one. Raises DamageFoundError."""
    if manifest is not None and hashlib.sha256(raw).digest() != manifest.headline:
        raise DamageFoundError(Finding(Damage.BAD_DIGEST, HEADLINE, None, "its SHA-256 is not the one in the manifest"))
    try:
        return unpack_document(raw)
    except RemoteProtocolError as error:
        raise DamageFoundError(Finding(Damage.BAD_HEADLINE, HEADLINE, None, str(error))) from None


def read_receipt(files: Files, dump_id: str) -> bytes | None:
    """The signed receipt as it stands; None if there is none. Raises DamageFoundError for a file too large, OSError."""
    return read_whole(files, f"{dump_id}/{RECEIPT}", RECEIPT_MAX)


def check_receipt(document: bytes, manifest: Manifest | None) -> None:
    """Hold a receipt against the manifest (None: nothing to hold it against, but it must be sealed). Spec: store.md 6.

    Its signature is for netdump.pki. Raises DamageFoundError.
    """
    members = unseal(document, RECEIPT_FORMAT, RECEIPT)
    if manifest is None:
        return
    if (members.text("id"), members.text("host")) != (manifest.id, manifest.host):
        raise members.wrong("id or host are not those of the manifest")
    numbers = (members.number("image_bytes"), members.number("chunks"), members.number("completed"))
    if numbers != (manifest.image_bytes, manifest.chunks, manifest.completed):
        raise members.wrong("image size, chunks or time are not those of the manifest")
    if members.octets("root", len(manifest.root)) != manifest.root:
        raise members.wrong("its root is not that of the manifest")
