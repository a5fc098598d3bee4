"""Digests, the chain over them, the root, and the dump id (wire.md 6 and 7).

Owns the hash inputs. Must not know frames: everything here is of raw bytes, so codec and level change nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netdump.wire._registry import DOMAIN_CHUNK, DOMAIN_ID, DOMAIN_LINK, DOMAIN_ROOT, DOMAIN_START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.wire._messages import Buffer


def chunk_digest(offset: int, length: int, table: bytes, raw: Buffer | Sequence[Buffer]) -> bytes:
    """Digest of a chunk, 32 bytes. raw: its raw data, whole or in pieces that follow one another. Spec: [W-80]."""
    digest = hashlib.sha256(
        DOMAIN_CHUNK + offset.to_bytes(8, "big") + length.to_bytes(4, "big") + len(table).to_bytes(4, "big") + table
    )
    pieces = (raw,) if isinstance(raw, bytes | bytearray | memoryview) else raw
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def chain_start(dump_id: bytes, image_bytes: int) -> bytes:
    """chain(0), 32 bytes: the chain value at image offset 0. Spec: [W-81]."""
    return hashlib.sha256(DOMAIN_START + dump_id + image_bytes.to_bytes(8, "big")).digest()


def chain_link(chain: bytes, digest: bytes) -> bytes:
    """chain(k+1) from chain(k) and the digest of chunk k. Spec: [W-81]."""
    return hashlib.sha256(DOMAIN_LINK + chain + digest).digest()


def root_digest(chain: bytes, image_bytes: int, chunks: int) -> bytes:
    """The root of a dump of that many chunks; chain: the value after the last one. Spec: [W-82]."""
    return hashlib.sha256(DOMAIN_ROOT + chain + image_bytes.to_bytes(8, "big") + chunks.to_bytes(8, "big")).digest()


def dump_identity(level: int, image_bytes: int, headers: bytes, notes: bytes, extra: bytes) -> bytes:
    """The dump id, 16 bytes. headers: ELF header and program header table; notes: contents of all PT_NOTE segments.

    extra: empty if the notes hold a VMCOREINFO with CRASHTIME, else what names the source. Spec: [W-85].
    """
    digest = hashlib.sha256(DOMAIN_ID + level.to_bytes(1, "big") + image_bytes.to_bytes(8, "big"))
    for part in (headers, notes):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    digest.update(extra)
    return digest.digest()[:16]
