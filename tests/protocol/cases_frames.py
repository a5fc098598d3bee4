"""Vectors of single frames: header and field syntax (wire.md 3), and which failure goes first ([W-20])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.crafted import CRITICAL, REGISTRY, Value, field_lines, fill, message, raw_field, raw_frame
from tests.protocol.vector_file import Vector, hex_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = REGISTRY["field"]
HELLO: dict[str, Value] = {"dump_id": fill("dump", 16), "image_bytes": 1000, "page_bytes": 4096, "level": 0}
HELLO_WORD = CRITICAL | 1
KEEPALIVE_WORD = CRITICAL | 8
UNKNOWN = 0x7F00  # a message and field number far from any that exists


def good(
    name: str,
    rules: str,
    comment: str,
    kind: str,
    values: dict[str, Value],
    *,
    frame: bytes | None = None,
    more: tuple[str, ...] = (),
    check: str = "structure",
) -> Vector:
    """A frame that is accepted. frame: its bytes where they are not the plain ones of these values."""
    raw = message(kind, values) if frame is None else frame
    body = (*hex_lines("bytes", raw), f"message {kind}", *field_lines(FIELDS[kind], values), *more)
    return Vector(name, "frame", "ok", tuple(rules.split()), check, comment, body)


def bad(name: str, rules: str, slug: str, comment: str, frame: bytes, *, check: str = "structure") -> Vector:
    """A frame that is refused."""
    return Vector(name, "frame", slug, tuple(rules.split()), check, comment, tuple(hex_lines("bytes", frame)))


def fields(values: dict[str, Value], word: int = CRITICAL) -> list[bytes]:
    """The fields of a HELLO one by one; word: the critical bit that each gets."""
    sizes = {"dump_id": 16, "image_bytes": 8, "page_bytes": 4, "level": 1}
    pieces = []
    for number, (name, size) in enumerate(sizes.items(), 1):
        value = values[name]
        raw = value if isinstance(value, bytes) else int(value).to_bytes(size, "big")
        pieces.append(raw_field(word | number, raw))
    return pieces


def header() -> Iterator[Vector]:
    """The frame header."""
    yield good("header-keepalive", "W-10", "The smallest frame.", "KEEPALIVE", {})
    yield good(
        "header-message-not-critical",
        "W-11",
        "A known message is known without critical.",
        "KEEPALIVE",
        {},
        frame=raw_frame(8, b""),
    )
    yield bad("header-reserved-low", "W-12", "bad-frame", "Reserved is 1.", raw_frame(KEEPALIVE_WORD, b"", reserved=1))
    yield bad(
        "header-reserved-high",
        "W-12",
        "bad-frame",
        "Reserved is 2^15.",
        raw_frame(KEEPALIVE_WORD, b"", reserved=0x8000),
    )
    yield bad(
        "header-unknown-critical",
        "W-11 W-18",
        "unknown-critical",
        "An unknown critical message.",
        raw_frame(CRITICAL | UNKNOWN, b""),
    )
    yield bad(
        "header-message-zero-critical",
        "W-18",
        "unknown-critical",
        "No message has the number 0.",
        raw_frame(CRITICAL, b""),
    )
    for name, row in REGISTRY["message"].items():
        limit = row["payload_max"]
        yield bad(
            f"header-too-large-{name}",
            "W-13",
            "too-large",
            f"Length {limit + 1} for {name}, no payload sent.",
            raw_frame(CRITICAL | row["type"], b"", length=limit + 1),
        )
    yield bad(
        "header-too-large-unknown",
        "W-13",
        "too-large",
        "Length 65537 for an unknown message that might be skipped.",
        raw_frame(UNKNOWN, b"", length=65537),
    )
    yield bad(
        "header-too-large-most",
        "W-13",
        "too-large",
        "Length 2^32 - 1.",
        raw_frame(KEEPALIVE_WORD, b"", length=0xFFFFFFFF),
    )


def syntax() -> Iterator[Vector]:
    """The sequence of fields."""
    parts = fields(HELLO)
    whole = b"".join(parts)
    yield good(
        "field-not-critical",
        "W-11",
        "Known fields are known without critical.",
        "HELLO",
        HELLO,
        frame=raw_frame(HELLO_WORD, b"".join(fields(HELLO, 0))),
    )
    yield good(
        "field-optional-critical",
        "W-11",
        "A known optional field is known with critical.",
        "HELLO",
        HELLO | {"attempt": 7},
        frame=raw_frame(HELLO_WORD, whole + raw_field(CRITICAL | 6, b"\0\0\0\7")),
    )
    yield bad("field-twice", "W-14", "bad-frame", "level stands twice.", raw_frame(HELLO_WORD, whole + parts[3]))
    yield bad(
        "field-twice-by-critical",
        "W-14",
        "bad-frame",
        "level twice, once without critical: it is one id.",
        raw_frame(HELLO_WORD, whole + raw_field(4, b"\0")),
    )
    yield bad(
        "field-descending",
        "W-14",
        "bad-frame",
        "level stands before page_bytes.",
        raw_frame(HELLO_WORD, parts[0] + parts[1] + parts[3] + parts[2]),
    )
    yield bad(
        "field-past-end",
        "W-14",
        "bad-frame",
        "The last field ends one byte after the payload.",
        raw_frame(HELLO_WORD, b"".join(parts[:3]) + raw_field(CRITICAL | 4, b"\0", length=2)),
    )
    yield bad(
        "field-past-end-most",
        "W-14",
        "bad-frame",
        "The last field is 2^32 - 1 bytes long.",
        raw_frame(HELLO_WORD, b"".join(parts[:3]) + raw_field(CRITICAL | 4, b"\0", length=0xFFFFFFFF)),
    )
    for size in (1, 5):
        yield bad(
            f"field-header-cut-{size}",
            "W-14",
            "bad-frame",
            f"{size} bytes after the last field are no field header.",
            raw_frame(HELLO_WORD, whole + raw_field(5, b"")[:size]),
        )
    many = b"".join(raw_field(UNKNOWN + number, b"") for number in range(61))
    yield good(
        "field-64",
        "W-14",
        "64 fields, 60 of them unknown.",
        "HELLO",
        HELLO,
        frame=raw_frame(HELLO_WORD, whole + many[: 60 * 6]),
    )
    yield bad("field-65", "W-14", "too-large", "65 fields.", raw_frame(HELLO_WORD, whole + many))
    yield good(
        "field-unknown",
        "W-17 W-90",
        "An unknown field without critical.",
        "HELLO",
        HELLO,
        frame=raw_frame(HELLO_WORD, whole + raw_field(UNKNOWN, b"of tomorrow")),
    )
    yield good(
        "field-unknown-in-keepalive",
        "W-17 W-90",
        "An unknown field where none is known.",
        "KEEPALIVE",
        {},
        frame=raw_frame(KEEPALIVE_WORD, raw_field(1, b"")),
    )
    yield good(
        "field-unknown-zero",
        "W-17",
        "The unknown field 0, before all others.",
        "HELLO",
        HELLO,
        frame=raw_frame(HELLO_WORD, raw_field(0, b"") + whole),
    )
    yield bad(
        "field-unknown-critical",
        "W-17",
        "unknown-critical",
        "An unknown critical field.",
        raw_frame(HELLO_WORD, whole + raw_field(CRITICAL | UNKNOWN, b"")),
    )
    yield bad(
        "field-unknown-critical-in-keepalive",
        "W-17",
        "unknown-critical",
        "An unknown critical field where none is known.",
        raw_frame(KEEPALIVE_WORD, raw_field(CRITICAL | 1, b"")),
    )


def sizes() -> Iterator[Vector]:
    """Fields of a fixed size, each one byte too short and too long."""
    for name, kind, size in (
        ("dump_id", "bytes:16", 16),
        ("image_bytes", "u64", 8),
        ("page_bytes", "u32", 4),
        ("level", "u8", 1),
    ):
        for label, wrong in (("short", size - 1), ("long", size + 1)):
            yield bad(
                f"size-{label}-{name}",
                "W-15",
                "bad-field",
                f"A field of kind {kind} has {wrong} bytes.",
                message("HELLO", HELLO | {name: bytes(wrong)}),
            )
    yield bad("size-long-u16", "W-15", "bad-field", "A u16 has 4 bytes.", message("DECLINE", {"code": b"\0\0\0\1"}))
    yield bad("size-none-u16", "W-15", "bad-field", "A u16 has no bytes.", message("DECLINE", {"code": b""}))


def texts() -> Iterator[Vector]:
    """Text fields."""
    for name, comment, text in (
        ("text-longest", "1024 bytes.", "x" * 1024),
        ("text-longest-wide", "1024 bytes in 512 characters.", "é" * 512),
        ("text-wide", "Characters of one to four bytes.", "a é € 𝄞"),
        ("text-after-control", "U+0020, U+007E and U+00A0 are beside the forbidden ranges.", " ~\u00a0"),
        ("text-empty", "An empty text.", ""),
    ):
        yield good(name, "W-16", comment, "DEFER", {"seconds": 1, "text": text})
    for name, comment, raw in (
        ("text-too-long", "1025 bytes.", b"x" * 1025),
        ("text-too-long-wide", "1025 bytes in 513 characters.", "é".encode() * 512 + b"x"),
        ("text-not-utf8", "The byte FF.", b"\xff"),
        ("text-cut-character", "A character of two bytes lacks the second.", b"\xc3"),
        ("text-overlong", "U+0000 in two bytes.", b"\xc0\x80"),
        ("text-surrogate", "U+D800.", b"\xed\xa0\x80"),
        ("text-past-unicode", "U+110000.", b"\xf4\x90\x80\x80"),
        ("text-nul", "U+0000.", b"a\0"),
        ("text-line-feed", "U+000A.", b"a\nb"),
        ("text-escape", "U+001B.", b"\x1b[2J"),
        ("text-unit-separator", "U+001F.", b"\x1f"),
        ("text-delete", "U+007F.", b"\x7f"),
        ("text-c1-first", "U+0080.", "\u0080".encode()),
        ("text-c1-last", "U+009F.", "\u009f".encode()),
    ):
        yield bad(name, "W-16", "bad-field", comment, message("DEFER", {"seconds": 1, "text": raw}))


def precedence() -> Iterator[Vector]:
    """Several faults in one frame."""
    parts = fields(HELLO)
    critical = raw_field(CRITICAL | UNKNOWN, b"")
    yield bad(
        "first-unknown-then-reserved",
        "W-20",
        "unknown-critical",
        "Unknown critical, reserved set, too large.",
        raw_frame(CRITICAL | UNKNOWN, b"", reserved=1, length=65537),
    )
    yield bad(
        "first-reserved-then-length",
        "W-20",
        "bad-frame",
        "Reserved set, too large.",
        raw_frame(HELLO_WORD, b"", reserved=1, length=65537),
    )
    yield bad(
        "first-syntax-then-field",
        "W-20",
        "bad-frame",
        "dump_id too short, and bytes after the last field.",
        raw_frame(HELLO_WORD, raw_field(CRITICAL | 1, b"") + b"".join(parts[1:]) + b"\0"),
    )
    many = b"".join(raw_field(UNKNOWN + number, b"") for number in range(60))
    yield bad(
        "first-count-then-syntax",
        "W-20 W-14",
        "too-large",
        "64 fields, and one byte that is no header of a 65th.",
        raw_frame(HELLO_WORD, b"".join(parts) + many + b"\0"),
    )
    yield bad(
        "first-syntax-then-unknown",
        "W-20",
        "bad-frame",
        "An unknown critical field, and bytes after it.",
        raw_frame(HELLO_WORD, b"".join(parts) + critical + b"\0"),
    )
    yield bad(
        "first-field-in-order",
        "W-20",
        "bad-field",
        "level out of range, then an unknown critical field.",
        raw_frame(HELLO_WORD, b"".join(parts[:3]) + raw_field(CRITICAL | 4, b"\xff") + critical),
    )
    yield bad(
        "first-unknown-in-order",
        "W-20",
        "unknown-critical",
        "The unknown critical field 0, then level out of range.",
        raw_frame(HELLO_WORD, raw_field(CRITICAL, b"") + b"".join(parts[:3]) + raw_field(CRITICAL | 4, b"\xff")),
    )
    yield bad(
        "first-unknown-then-missing",
        "W-20",
        "unknown-critical",
        "No level, and an unknown critical field.",
        raw_frame(HELLO_WORD, b"".join(parts[:3]) + critical),
    )


def vectors() -> Iterator[Vector]:
    """All of this module."""
    for group in (header, syntax, sizes, texts, precedence):
        yield from group()
