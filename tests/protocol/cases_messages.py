"""Vectors of single frames: the fields of each message, their ranges and what it must be as a whole (wire.md 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.cases_frames import HELLO, bad, good
from tests.protocol.crafted import (
    CRITICAL,
    MIB,
    REGISTRY,
    Value,
    counter,
    field_lines,
    fill,
    message,
    payload,
    raw_field,
    sha256,
    table,
    zstd_block,
    zstd_header,
    zstd_repeated,
    zstd_stored,
)
from tests.protocol.vector_file import Vector, hex_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = payload(REGISTRY["headline"], {"log": b"[    0.000000] Linux\n", "machine": "x86_64", "cpus": 2})
RUNS = table([("data", 16, "none", 0)])

# One frame of each message with every field, from which the wrong ones are made.
FULL: dict[str, dict[str, Value]] = {
    "HELLO": HELLO | {"agent": "netdump/0.1", "attempt": 3, "drill": 1},
    "RESUME": {
        "offset": 500,
        "chain": fill("chain", 32),
        "chunks": 2,
        "headline": 1,
        "credit": 2 * MIB,
        "keepalive": 5,
        "idle": 15,
    },
    "DEFER": {"seconds": 60, "text": "the disk is full"},
    "DECLINE": {"code": 1, "text": "not yours"},
    "HEADLINE": {"codec": 0, "raw_bytes": len(DOCUMENT), "digest": sha256(DOCUMENT), "body": DOCUMENT},
    "CHUNK": {"offset": 0, "length": 16, "runs": RUNS, "digest": fill("digest", 32), "codec": 0, "data": counter(16)},
    "ACK": {"offset": 4096, "credit": 2 * MIB},
    "KEEPALIVE": {},
    "FINISH": {"image_bytes": 1000, "chunks": 2, "root": fill("root", 32), "remark": "free pages are sent too"},
    "RECEIPT": {"root": fill("root", 32), "document": b"{}\n"},
    "ERROR": {"code": 14, "text": "no space left"},
}
MEANS = {"DECLINE": ("means not-owner",), "ERROR": ("means storage",)}

# Values at the ends of a range, right and wrong: message, field, right, wrong
RANGES: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("HELLO", "image_bytes", (1, 1 << 52), (0, (1 << 52) + 1, (1 << 64) - 1)),
    ("HELLO", "page_bytes", (4096, 8192, 16384, 32768, 65536), (0, 2048, 4095, 4097, 12288, 131072)),
    ("HELLO", "level", (0, 31), (32, 255)),
    ("HELLO", "attempt", (0, (1 << 32) - 1), ()),
    ("HELLO", "drill", (0, 1), (2, 255)),
    ("RESUME", "offset", (1 << 52,), ((1 << 52) + 1,)),
    ("RESUME", "headline", (0, 1), (2,)),
    ("RESUME", "credit", (2 * MIB, 256 * MIB), (256 * MIB + 1,)),
    ("RESUME", "keepalive", (1,), (0, 61)),
    ("RESUME", "idle", (15, 600), (0, 601)),
    ("DEFER", "seconds", (1, 86400), (0, 86401)),
    ("HEADLINE", "raw_bytes", (), (8 * MIB + 1,)),
    ("HEADLINE", "codec", (), (2, 255)),
    ("ACK", "credit", (2 * MIB, 256 * MIB), (0, 2 * MIB - 1, 256 * MIB + 1)),
)


def whole() -> Iterator[Vector]:
    """Every message with all its fields, and with the required ones alone."""
    for name, values in FULL.items():
        yield good(
            f"message-{name}", "W-10", f"{name} with every field.", name, values, more=_runs(name) + MEANS.get(name, ())
        )
        required = {field: value for field, value in values.items() if REGISTRY["field"][name][field]["required"]}
        if required != values:
            yield good(
                f"message-{name}-required",
                "W-19",
                f"{name} with its required fields alone.",
                name,
                required,
                more=MEANS.get(name, ()),
            )


def _runs(name: str) -> tuple[str, ...]:
    return ("run data 16 none 0",) if name == "CHUNK" else ()


def missing() -> Iterator[Vector]:
    """Every required field left out."""
    for name, values in FULL.items():
        for field in values:
            if REGISTRY["field"][name][field]["required"]:
                rest = {other: value for other, value in values.items() if other != field}
                yield bad(
                    f"missing-{name}-{field}", "W-19", "bad-field", f"{name} without {field}.", message(name, rest)
                )


def ranges() -> Iterator[Vector]:
    """Numbers at the ends of their ranges and one beyond."""
    for name, field, right, wrong in RANGES:
        for value in right:
            yield good(
                f"range-{name}-{field}-{value}", "W-19", f"{field} may be {value}.", name, FULL[name] | {field: value}
            )
        for value in wrong:
            yield bad(
                f"range-{name}-{field}-{value}",
                "W-19",
                "bad-field",
                f"{field} must not be {value}.",
                message(name, FULL[name] | {field: value}),
            )


def resume() -> Iterator[Vector]:
    """RESUME as a whole."""
    full = FULL["RESUME"]
    start: dict[str, Value] = {"offset": 0, "chunks": 0, "headline": 0}
    yield good("resume-at-start", "W-35", "Offset 0 and no chunks.", "RESUME", full | start)
    yield good("resume-credit-0", "W-37", "No chunks yet.", "RESUME", full | {"credit": 0})
    for credit in (1, 2 * MIB - 1):
        comment = "Less credit than any chunk may need."
        yield bad(
            f"resume-credit-{credit}", "W-37", "bad-field", comment, message("RESUME", {**full, "credit": credit})
        )
    for comment, values in (
        ("Chunks before offset 0.", {"offset": 0, "chunks": 1}),
        ("No chunks before offset 500.", {"offset": 500, "chunks": 0}),
        ("More chunks than bytes before offset 500.", {"offset": 500, "chunks": 501}),
    ):
        yield bad(
            f"resume-chunks-{values['chunks']}", "W-35", "bad-field", comment, message("RESUME", {**full, **values})
        )
    yield good("resume-idle-least", "W-19", "idle is 3 times keepalive.", "RESUME", full | {"keepalive": 1, "idle": 3})
    yield good("resume-keepalive-most", "W-19", "keepalive 60.", "RESUME", full | {"keepalive": 60, "idle": 180})
    yield bad(
        "resume-idle-short",
        "W-19",
        "bad-field",
        "idle is less than 3 times keepalive.",
        message("RESUME", full | {"keepalive": 5, "idle": 14}),
    )
    yield bad(
        "resume-idle-two", "W-19", "bad-field", "idle is 2.", message("RESUME", full | {"keepalive": 1, "idle": 2})
    )


def headline() -> Iterator[Vector]:
    """HEADLINE and its body."""

    def values(body: bytes, raw: bytes, codec: int) -> dict[str, Value]:
        return {"codec": codec, "raw_bytes": len(raw), "digest": sha256(raw), "body": body}

    yield good("headline-empty", "W-41", "An empty document.", "HEADLINE", values(b"", b"", 0), check="content")
    yield good("headline-stored", "W-42", "A stored body.", "HEADLINE", values(DOCUMENT, DOCUMENT, 0), check="content")
    yield good(
        "headline-zstd",
        "W-42",
        "A compressed body.",
        "HEADLINE",
        values(zstd_stored(DOCUMENT), DOCUMENT, 1),
        check="content",
    )
    letters = b"x" * (4 * MIB)
    yield bad(
        "headline-not-a-document",
        "W-41",
        "bad-frame",
        "4 MiB of one letter, which are no fields.",
        message("HEADLINE", values(zstd_repeated(ord("x"), len(letters)), letters, 1)),
        check="content",
    )
    full = values(DOCUMENT, DOCUMENT, 0)
    for change, label in ((1, "short"), (-1, "long")):
        yield bad(
            f"headline-stored-{label}",
            "W-42",
            "bad-codec",
            f"A stored body that is too {label}.",
            message("HEADLINE", full | {"raw_bytes": len(DOCUMENT) + change}),
        )
        yield bad(
            f"headline-zstd-{label}",
            "W-42",
            "bad-codec",
            f"A compressed body that is too {label}.",
            message("HEADLINE", values(zstd_stored(DOCUMENT), DOCUMENT, 1) | {"raw_bytes": len(DOCUMENT) + change}),
            check="content",
        )
    yield bad(
        "headline-zstd-broken",
        "W-42",
        "bad-codec",
        "A body that is not zstd.",
        message("HEADLINE", values(DOCUMENT, DOCUMENT, 1)),
        check="content",
    )
    for name, window, slug in (("most", b"\x68", "ok"), ("over", b"\x69", "bad-codec")):
        size = len(DOCUMENT).to_bytes(4, "little")
        body = zstd_header(0x80, window, size) + zstd_block(0, len(DOCUMENT), DOCUMENT, last=True)
        fields = values(body, DOCUMENT, 1)
        comment = f"A window of 8 MiB{' and an eighth' if slug != 'ok' else ''}."
        if slug == "ok":
            yield good(f"headline-window-{name}", "W-42", comment, "HEADLINE", fields, check="content")
        else:
            frame = message("HEADLINE", fields)
            yield bad(f"headline-window-{name}", "W-42", slug, comment, frame, check="content")
    yield bad(
        "headline-digest",
        "W-42",
        "bad-digest",
        "A wrong digest.",
        message("HEADLINE", full | {"digest": fill("wrong", 32)}),
        check="content",
    )


def others() -> Iterator[Vector]:
    """Codes, and the document of RECEIPT."""
    receipt = FULL["RECEIPT"]
    for size in (1, 16384):
        yield good(
            f"receipt-{size}", "W-19", f"A document of {size} bytes.", "RECEIPT", receipt | {"document": counter(size)}
        )
    for size in (0, 16385):
        yield bad(
            f"receipt-{size}",
            "W-19",
            "bad-field",
            f"A document of {size} bytes.",
            message("RECEIPT", receipt | {"document": counter(size)}),
        )
    for slug, row in REGISTRY["error"].items():
        yield good(
            f"error-{slug}", "W-71", f"The code {slug}.", "ERROR", {"code": row["code"]}, more=(f"means {slug}",)
        )
    for code in (0, 18, 65535):
        yield good(
            f"error-{code}", "W-71", "An unknown code is internal.", "ERROR", {"code": code}, more=("means internal",)
        )
    yield good(
        "decline-unknown",
        "W-39",
        "A code of tomorrow declines as well.",
        "DECLINE",
        {"code": 999},
        more=("means unknown",),
    )
    for slug, row in REGISTRY["decline"].items():
        yield good(
            f"decline-{slug}", "W-19", f"The code {slug}.", "DECLINE", {"code": row["code"]}, more=(f"means {slug}",)
        )


def documents() -> Iterator[Vector]:
    """The headline document."""
    registry = REGISTRY["headline"]
    full: dict[str, Value] = {
        "ehdr": counter(64),
        "phdrs": counter(112),
        "notes": counter(40),
        "vmcoreinfo": b"OSRELEASE=6.1.0\n",
        "log": "[    0.0] größer\n".encode(),
        "kernel_release": "6.1.0-56-cloud-amd64",
        "kernel_version": "#1 SMP",
        "machine": "x86_64",
        "nodename": "web1",
        "crash_time": 1_700_000_000,
        "cpus": 2,
        "log_truncated": 1,
        "remark": "é",
    }
    yield _document("document-full", "W-41", "Every field.", payload(registry, full), full)
    yield _document("document-empty", "W-41", "Every field is optional.", b"", {})
    little: dict[str, Value] = {"cpus": 1}
    tomorrow = raw_field(0x7F00, b"of tomorrow")
    yield _document("document-unknown", "W-41 W-17", "An unknown field.", payload(registry, little) + tomorrow, little)
    for name, rules, slug, comment, raw in (
        (
            "unknown-critical",
            "W-41 W-17",
            "unknown-critical",
            "An unknown critical field.",
            raw_field(CRITICAL | 0x7F00, b""),
        ),
        ("twice", "W-41 W-14", "bad-frame", "cpus stands twice.", payload(registry, little) * 2),
        ("cut", "W-41 W-14", "bad-frame", "It ends inside a field.", payload(registry, little)[:-1]),
        ("size", "W-41 W-15", "bad-field", "cpus has 3 bytes.", payload(registry, {"cpus": b"\0\0\1"})),
        ("text", "W-41 W-16", "bad-field", "A line feed in nodename.", payload(registry, {"nodename": "a\nb"})),
        ("65", "W-41 W-14", "too-large", "65 fields.", b"".join(raw_field(0x7F00 + at, b"") for at in range(65))),
    ):
        body = tuple(hex_lines("bytes", raw))
        yield Vector(f"document-{name}", "document", slug, tuple(rules.split()), "structure", comment, body)


def _document(name: str, rules: str, comment: str, raw: bytes, values: dict[str, Value]) -> Vector:
    body = (*hex_lines("bytes", raw), *field_lines(REGISTRY["headline"], values))
    return Vector(name, "document", "ok", tuple(rules.split()), "structure", comment, body)


def vectors() -> Iterator[Vector]:
    """All of this module."""
    for group in (whole, missing, ranges, resume, headline, others, documents):
        yield from group()
