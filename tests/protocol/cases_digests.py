"""Vectors of digests, chain, root and dump id (wire.md 6 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.crafted import (
    Value,
    chain_link,
    chain_start,
    chunk_digest,
    counter,
    fill,
    root,
    sha256,
    table,
    u32,
    u64,
    value_text,
)
from tests.protocol.vector_file import Vector

if TYPE_CHECKING:
    from collections.abc import Iterator


def computed(name: str, rule: str, comment: str, function: str, inputs: dict[str, Value], *, result: bytes) -> Vector:
    """One computation."""
    lines = [f"input {key} {value_text(value)}" for key, value in inputs.items()]
    body = (f"function {function}", *lines, f"result {result.hex()}")
    return Vector(name, "digest", "ok", (rule,), "structure", comment, body)


def chunks() -> Iterator[Vector]:
    """[W-80]."""
    for name, comment, offset, length, runs, raw in (
        ("data", "Data alone.", 0, 1000, table([("data", 1000, "none", 0)]), counter(1000)),
        ("zero", "No raw data.", 4096, 1 << 30, table([("zero", 1 << 30, "none", 0)]), b""),
        (
            "alias",
            "The source of an alias is part of the table.",
            1 << 40,
            4196,
            table([("alias", 4096, "none", 1 << 39), ("data", 100, "none", 0)]),
            counter(100),
        ),
    ):
        inputs: dict[str, Value] = {"offset": offset, "length": length, "runs": runs, "raw": raw}
        result = chunk_digest(offset, length, runs, raw)
        yield computed(f"digest-of-{name}", "W-80", comment, "chunk_digest", inputs, result=result)


def chains() -> Iterator[Vector]:
    """[W-81] and [W-82]."""
    dump_id, chain, digest = fill("dump", 16), fill("chain", 32), fill("digest", 32)
    start: dict[str, Value] = {"dump_id": dump_id, "image_bytes": 1000}
    yield computed("chain-start", "W-81", "chain(0).", "chain_start", start, result=chain_start(dump_id, 1000))
    link: dict[str, Value] = {"chain": chain, "digest": digest}
    yield computed("chain-link", "W-81", "One link.", "chain_link", link, result=chain_link(chain, digest))
    for chunks_before in (1, 1 << 40):
        end: dict[str, Value] = {"chain": chain, "image_bytes": 1 << 52, "chunks": chunks_before}
        result = root(chain, 1 << 52, chunks_before)
        yield computed(f"root-{chunks_before}", "W-82", "The root.", "root", end, result=result)


def identities() -> Iterator[Vector]:
    """[W-85]."""
    headers, notes = counter(176), counter(64, 7)
    for name, comment, level, notes_of, extra in (
        ("crash", "Notes that are unique: extra is empty.", 0, notes, b""),
        ("level", "Another level is another dump.", 31, notes, b""),
        ("file", "Notes that are not: extra names the source.", 0, notes, b"2049 131 1700000000000000000"),
        ("no-notes", "No notes at all.", 1, b"", b"2049 131 1700000000000000000"),
    ):
        inputs: dict[str, Value] = {
            "level": level,
            "image_bytes": 1 << 30,
            "headers": headers,
            "notes": notes_of,
            "extra": extra,
        }
        parts = (
            b"netdump/1 id\n",
            bytes((level,)),
            u64(1 << 30),
            u32(len(headers)),
            headers,
            u32(len(notes_of)),
            notes_of,
            extra,
        )
        result = sha256(*parts)[:16]
        yield computed(f"dump-id-{name}", "W-85", comment, "dump_id", inputs, result=result)


def vectors() -> Iterator[Vector]:
    """All of this module."""
    for group in (chunks, chains, identities):
        yield from group()
