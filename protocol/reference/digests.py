"""Digests of chunks, the chain over them and the root, and the dump id: wire.md sections 6 and 7. Nothing else."""

from __future__ import annotations

from hashlib import sha256

CHUNK = b"netdump/1 chunk\n"
START = b"netdump/1 start\n"
LINK = b"netdump/1 link\n"
ROOT = b"netdump/1 root\n"
ID = b"netdump/1 id\n"


def u32(number: int) -> bytes:
    """Give number, 0 .. 2^32 - 1, as 4 bytes, big-endian (wire.md section 1)."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Give number, 0 .. 2^64 - 1, as 8 bytes, big-endian (wire.md section 1)."""
    return number.to_bytes(8, "big")


def chunk_digest(offset: int, length: int, run_table: bytes, raw: bytes) -> bytes:
    """Digest of a chunk of length bytes of image at offset: what its runs say and its raw data [W-80]."""
    return sha256(CHUNK + u64(offset) + u32(length) + u32(len(run_table)) + run_table + raw).digest()


def chain_start(dump_id: bytes, image_bytes: int) -> bytes:
    """chain(0) of a dump [W-81]."""
    return sha256(START + dump_id + u64(image_bytes)).digest()


def chain_link(chain: bytes, digest: bytes) -> bytes:
    """chain(k + 1) from chain(k) and the digest of chunk k [W-81]."""
    return sha256(LINK + chain + digest).digest()


def root_of(chain: bytes, image_bytes: int, chunks: int) -> bytes:
    """Root of a dump from its last chain value, its size and the number of its chunks [W-82]."""
    return sha256(ROOT + chain + u64(image_bytes) + u64(chunks)).digest()


def dump_id(level: int, image_bytes: int, headers: bytes, notes: bytes, extra: bytes) -> bytes:
    """The 16 bytes that name the dump of an image taken at level [W-85]."""
    sized = u32(len(headers)) + headers + u32(len(notes)) + notes
    return sha256(ID + level.to_bytes(1, "big") + u64(image_bytes) + sized + extra).digest()[:16]
