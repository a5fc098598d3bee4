"""A dump's folder made by hand, right or wrong, from store.md and registry.toml. Uses nothing of netdump.

What the store's vectors are made with, as crafted.py is what the wire's are made with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.protocol.crafted import (
    REGISTRY,
    Runs,
    Value,
    chain_link,
    chain_start,
    chunk_digest,
    counter,
    fill,
    message,
    payload,
    root,
    sha256,
    table,
    u32,
    u64,
    zstd_stored,
)

ID = fill("store", 16)
HOST = "web1"
HEADLINE = payload(REGISTRY["headline"], {"machine": "x86_64"})
MAGIC = str(REGISTRY["segment"]["magic"]).encode()
END_MAGIC = str(REGISTRY["segment"]["end_magic"]).encode()
STATES = ("data", "zero", "alias", "excluded", "lost")

Members = dict[str, Any]


def canonical(value: object) -> str:
    """Canonical text without its line feed, [S-10]. Texts in here are plain ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def seal(members: Members) -> bytes:
    """A sealed file, [S-11]."""
    digest = sha256(canonical(members).encode() + b"\n").hex()
    return canonical({**members, "sha256": digest}).encode() + b"\n"


def seal_text(text: str) -> bytes:
    """The text of an object, whatever it is like, with its seal behind its last member, as in origin.json."""
    digest = sha256(text.encode() + b"\n").hex()
    return text[:-1].encode() + f',"sha256":"{digest}"}}'.encode() + b"\n"


@dataclass(frozen=True)
class Piece:
    """A chunk: its runs and its raw data. frame: how it is stored; made from the others unless given."""

    offset: int
    runs: Runs
    raw: bytes
    zstd: bool = False
    frame: bytes = b""

    @property
    def length(self) -> int:
        return sum(size for _, size, _, _ in self.runs)

    @property
    def digest(self) -> bytes:
        return chunk_digest(self.offset, self.length, table(self.runs), self.raw)

    def values(self) -> dict[str, Value]:
        """The fields of its frame."""
        data = zstd_stored(self.raw) if self.zstd else self.raw
        return {
            "offset": self.offset,
            "length": self.length,
            "runs": table(self.runs),
            "digest": self.digest,
            "codec": int(self.zstd),
            "data": data,
        }

    def stored(self) -> bytes:
        """The frame."""
        return self.frame or message("CHUNK", self.values())


def data(offset: int, length: int, *, zstd: bool = False) -> Piece:
    """A chunk of data in the counter pattern."""
    return Piece(offset, [("data", length, "none", 0)], counter(length, offset), zstd)


@dataclass
class Segment:
    """A segment file. The members that are None are made as the law says; others stand as they are given."""

    pieces: list[Piece]
    first: int
    chain: bytes
    dump_id: bytes = ID
    changes: dict[int, bytes] = field(default_factory=dict)  # position in the table: bytes put there
    trailer: dict[str, int] = field(default_factory=dict)  # chunks, reserved, table, end
    trailer_digests: dict[str, bytes] = field(default_factory=dict)  # chain, sha256

    @property
    def start(self) -> int:
        return self.pieces[0].offset

    @property
    def end(self) -> int:
        return self.pieces[-1].offset + self.pieces[-1].length

    @property
    def chain_after(self) -> bytes:
        chain = self.chain
        for piece in self.pieces:
            chain = chain_link(chain, piece.digest)
        return chain

    @property
    def name(self) -> str:
        return f"{self.start:016x}-{self.end:016x}.seg"

    def header(self) -> bytes:
        return MAGIC + self.dump_id + u64(self.start) + u64(self.first) + self.chain

    def entries(self) -> bytes:
        entries, position = b"", len(self.header())
        for piece in self.pieces:
            size = len(piece.stored())
            entries += u64(position) + u32(size) + u32(len(piece.raw)) + u64(piece.offset) + u32(piece.length) + u32(0)
            entries += piece.digest
            position += size
        for at, put in self.changes.items():
            entries = entries[:at] + put + entries[at + len(put) :]
        return entries

    def signed(self) -> bytes:
        """The first 56 bytes of the trailer."""
        frames = sum(len(piece.stored()) for piece in self.pieces)
        return (
            u32(self.trailer.get("chunks", len(self.pieces)))
            + u32(self.trailer.get("reserved", 0))
            + u64(self.trailer.get("table", len(self.header()) + frames))
            + u64(self.trailer.get("end", self.end))
            + self.trailer_digests.get("chain", self.chain_after)
        )

    def sha256(self) -> bytes:
        return self.trailer_digests.get("sha256", sha256(self.header(), self.entries(), self.signed()))

    def file(self) -> bytes:
        """The whole file."""
        frames = b"".join(piece.stored() for piece in self.pieces)
        return self.header() + frames + self.entries() + self.signed() + self.sha256() + END_MAGIC

    def listed(self) -> Members:
        """As a manifest lists it."""
        return {
            "name": self.name,
            "start": self.start,
            "end": self.end,
            "chunks": len(self.pieces),
            "bytes": len(self.file()),
            "sha256": self.sha256().hex(),
        }


def segments(*groups: list[Piece], image_bytes: int) -> list[Segment]:
    """Segments that follow one another from the beginning of the image."""
    made: list[Segment] = []
    first, chain = 0, chain_start(ID, image_bytes)
    for pieces in groups:
        made.append(Segment(pieces, first, chain))
        first, chain = first + len(pieces), made[-1].chain_after
    return made


def origin(size: int, /, **changes: object) -> Members:
    """The members of origin.json."""
    members: Members = {
        "format": "netdump-origin/1",
        "id": ID.hex(),
        "host": HOST,
        "host_key": fill("key", 32).hex(),
        "image_bytes": size,
        "page_bytes": 4096,
        "level": 31,
        "drill": False,
        "agent": "netdump/1.0",
        "created": 1700000000,
    }
    return members | changes


def manifest(made: list[Segment], size: int, /, **changes: object) -> Members:
    """The members of manifest.json for these segments."""
    runs = [run for segment in made for piece in segment.pieces for run in piece.runs]
    chunks = sum(len(segment.pieces) for segment in made)
    members: Members = {
        "format": "netdump-manifest/1",
        "id": ID.hex(),
        "host": HOST,
        "image_bytes": size,
        "chunks": chunks,
        "root": root(made[-1].chain_after, size, chunks).hex(),
        "headline": sha256(HEADLINE).hex(),
        "completed": 1700000100,
        "totals": {
            **{state: sum(size for its, size, _, _ in runs if its == state) for state in STATES},
            "stored": sum(len(piece.stored()) for segment in made for piece in segment.pieces),
        },
        "excluded": {
            reason: sum(size for _, size, its, _ in runs if its == reason)
            for _, _, reason, _ in runs
            if reason != "none"
        },
        "segments": [segment.listed() for segment in made],
    }
    return members | changes


def receipt(of: Members, /, **changes: object) -> Members:
    """The members of receipt.json for a manifest; the signature is none, which only [S-35] forbids."""
    members: Members = {name: of[name] for name in ("id", "host", "image_bytes", "chunks", "root", "completed")}
    members |= {"format": "netdump-receipt/1", "collector": "collector.example", "certificate": "", "signature": ""}
    return members | changes
