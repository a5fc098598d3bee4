"""Bytes of netdump/1 made by hand, right or wrong, from registry.toml and the prose. Uses nothing of netdump.

What the vectors are made with: if this and netdump.wire agree, two readings of wire.md do.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTRY: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "protocol" / "registry.toml").read_text("utf-8"))
CRITICAL = 0x8000
MIB = 1 << 20

Value = int | bytes | str
Runs = list[tuple[str, int, str, int]]  # state, bytes, class, source


def counter(size: int, start: int = 0) -> bytes:
    """The counter pattern: 0, 1, … 250, 0, 1, …"""
    return bytes((start + at) % 251 for at in range(size))


def fill(label: str, size: int) -> bytes:
    """Bytes that stand for an id, digest or the like, each recognisable."""
    return hashlib.sha256(label.encode()).digest()[:size]


# Frames and fields


def raw_frame(word: int, payload: bytes, reserved: int = 0, length: int | None = None) -> bytes:
    """A frame whose header says anything. word: type with its critical bit."""
    size = len(payload) if length is None else length
    return word.to_bytes(2, "big") + reserved.to_bytes(2, "big") + size.to_bytes(4, "big") + payload


def raw_field(word: int, raw: bytes, length: int | None = None) -> bytes:
    """A field whose header says anything. word: id with its critical bit."""
    return word.to_bytes(2, "big") + (len(raw) if length is None else length).to_bytes(4, "big") + raw


def value_bytes(kind: str, value: Value) -> bytes:
    """A value by its kind; bytes are taken as they are, so that a wrong size can be made."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return value.to_bytes(int(kind[1:]) // 8, "big")


def payload(table: Mapping[str, Mapping[str, Any]], values: Mapping[str, Value]) -> bytes:
    """The fields of a table of the registry that have a value here."""
    return b"".join(
        raw_field(row["id"] | (CRITICAL if row["critical"] else 0), value_bytes(row["kind"], values[name]))
        for name, row in table.items()
        if name in values
    )


def message(name: str, values: Mapping[str, Value], extra: bytes = b"") -> bytes:
    """A frame of this message. extra: fields that the registry does not know, appended."""
    word = REGISTRY["message"][name]["type"] | CRITICAL
    return raw_frame(word, payload(REGISTRY["field"][name], values) + extra)


def field_lines(table: Mapping[str, Mapping[str, Any]], values: Mapping[str, Value]) -> list[str]:
    """Body lines for the fields that have a value here."""
    return [f"field {name} {value_text(values[name])}" for name in table if name in values]


def value_text(value: Value) -> str:
    """A value as vectors write it."""
    if isinstance(value, bytes):
        return value.hex() or "-"
    return json.dumps(value) if isinstance(value, str) else str(value)


# Runs, digests, zstd


def raw_run(state: int, size: int, reason: int = 0, source: int | None = None, reserved: int = 0) -> bytes:
    """One run of a table with any numbers in it."""
    head = bytes((state, reason)) + reserved.to_bytes(2, "big") + size.to_bytes(4, "big")
    return head if source is None else head + source.to_bytes(8, "big")


def table(runs: Runs) -> bytes:
    """A run table from names of the registry."""
    states, classes = REGISTRY["page_state"], REGISTRY["exclude_class"]
    return b"".join(
        raw_run(states[state], size, classes[reason], source if state == "alias" else None)
        for state, size, reason, source in runs
    )


def run_lines(runs: Runs) -> list[str]:
    """Body lines for runs."""
    return [f"run {state} {size} {reason} {source}" for state, size, reason, source in runs]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def domain(name: str) -> bytes:
    return str(REGISTRY["domain"][name]).encode()


def chunk_digest(offset: int, length: int, runs: bytes, raw: bytes) -> bytes:
    return sha256(domain("chunk"), u64(offset), u32(length), u32(len(runs)), runs, raw)


def chain_start(dump_id: bytes, image_bytes: int) -> bytes:
    return sha256(domain("start"), dump_id, u64(image_bytes))


def chain_link(chain: bytes, digest: bytes) -> bytes:
    return sha256(domain("link"), chain, digest)


def root(chain: bytes, image_bytes: int, chunks: int) -> bytes:
    return sha256(domain("root"), chain, u64(image_bytes), u64(chunks))


def zstd_header(descriptor: int, *parts: bytes) -> bytes:
    """The begin of a zstd frame (RFC 8878, 3.1.1): magic number, descriptor, then what the descriptor calls for."""
    return b"\x28\xb5\x2f\xfd" + bytes((descriptor,)) + b"".join(parts)


def zstd_block(kind: int, size: int, raw: bytes, *, last: bool) -> bytes:
    """One block: kind 0 raw, 1 RLE."""
    return (size << 3 | kind << 1 | int(last)).to_bytes(3, "little") + raw


def zstd_stored(raw: bytes) -> bytes:
    """One frame with its content size and one raw block; at most 128 KiB of raw data."""
    return zstd_header(0xA0, len(raw).to_bytes(4, "little")) + zstd_block(0, len(raw), raw, last=True)


def zstd_repeated(byte: int, size: int) -> bytes:
    """One frame of the same byte over and over, in RLE blocks of 128 KiB."""
    blocks = [min(131072, size - at) for at in range(0, size, 131072)]
    return zstd_header(0xA0, size.to_bytes(4, "little")) + b"".join(
        zstd_block(1, block, bytes((byte,)), last=at == len(blocks) - 1) for at, block in enumerate(blocks)
    )
