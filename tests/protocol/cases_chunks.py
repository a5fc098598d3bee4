"""Vectors of single CHUNK frames: run tables and the encoding of data ([W-46] to [W-53])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.cases_frames import bad, good
from tests.protocol.crafted import (
    MIB,
    REGISTRY,
    Runs,
    Value,
    chunk_digest,
    counter,
    fill,
    message,
    raw_run,
    run_lines,
    table,
    zstd_block,
    zstd_header,
    zstd_repeated,
    zstd_stored,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.protocol.vector_file import Vector

DATA, ZERO, ALIAS, EXCLUDED, LOST = range(5)
AT = 0x10_0000  # image offset of the chunks below, so that aliases have something to refer to


def values(runs: Runs, raw: bytes, data: bytes | None = None, codec: int = 0, offset: int = AT) -> dict[str, Value]:
    """The fields of a chunk whose digest is right. data: the encoded raw data, None if stored."""
    length, packed = sum(run[1] for run in runs), table(runs)
    return {
        "offset": offset,
        "length": length,
        "runs": packed,
        "digest": chunk_digest(offset, length, packed, raw),
        "codec": codec,
        "data": raw if data is None else data,
    }


def of(name: str, rules: str, comment: str, runs: Runs, raw: bytes = b"", *, offset: int = AT) -> Vector:
    """A chunk with stored data that is accepted."""
    full = values(runs, raw, offset=offset)
    return good(name, rules, comment, "CHUNK", full, more=tuple(run_lines(runs)), check="content")


def broken(name: str, rules: str, comment: str, runs: bytes, length: int, *, raw: bytes = b"") -> Vector:
    """A chunk whose run table is refused. length: of the chunk."""
    full: dict[str, Value] = {"offset": AT, "length": length, "runs": runs, "codec": 0, "data": raw}
    full["digest"] = chunk_digest(AT, length, runs, raw)
    return bad(name, rules, "bad-field", comment, message("CHUNK", full))


def tables() -> Iterator[Vector]:
    """Run tables that are right."""
    yield of("runs-data", "W-46", "One run of data.", [("data", 100, "none", 0)], counter(100))
    yield of("runs-zero", "W-50", "One run of zeros, 1 GiB long, and no data.", [("zero", 1 << 30, "none", 0)])
    yield of("runs-lost", "W-50", "One lost run.", [("lost", 4096, "none", 0)])
    every: Runs = [
        ("data", 48, "none", 0),
        ("zero", 4096, "none", 0),
        ("alias", 4096, "none", 8192),
        ("excluded", 4096, "user", 0),
        ("lost", 4096, "none", 0),
        ("data", 16, "none", 0),
    ]
    yield of("runs-every-state", "W-46 W-48", "All states; raw data is that of both data runs.", every, counter(64))
    for name in REGISTRY["exclude_class"]:
        if name != "none":
            yield of(f"runs-excluded-{name}", "W-50", f"Excluded as {name}.", [("excluded", 4096, name, 0)])
    neighbours: Runs = [("excluded", 4096, "user", 0), ("excluded", 4096, "free", 0)]
    yield of("runs-excluded-twice", "W-47", "Two classes are two runs.", neighbours)
    jump: Runs = [("alias", 4096, "none", 0), ("alias", 4096, "none", 8192)]
    yield of("runs-alias-jump", "W-47", "Two aliases whose sources are not neighbours are two runs.", jump)
    swap: Runs = [("alias", 4096, "none", 4096), ("alias", 4096, "none", 0)]
    yield of("runs-alias-back", "W-47", "Two aliases whose sources descend are two runs.", swap)
    yield of("runs-alias-next", "W-49", "The source ends where the run starts.", [("alias", 4096, "none", AT - 4096)])
    inside: Runs = [("data", 64, "none", 0), ("alias", 64, "none", AT)]
    yield of("runs-alias-inside", "W-49", "The source is an earlier run of the same chunk.", inside, counter(64))
    many: Runs = [("zero", 1, "none", 0), ("lost", 1, "none", 0)] * 2048
    yield of("runs-4096", "W-46", "4096 runs.", many)


def wrong_tables() -> Iterator[Vector]:
    """Run tables that are wrong as wholes."""
    yield broken("runs-none", "W-46", "An empty table.", b"", 4096)
    many = (raw_run(ZERO, 1) + raw_run(LOST, 1)) * 2048 + raw_run(ZERO, 1)
    yield broken("runs-4097", "W-46", "4097 runs.", many, 4097)
    yield broken("runs-short", "W-46", "The runs are one byte shorter than the chunk.", raw_run(ZERO, 4095), 4096)
    yield broken("runs-long", "W-46", "The runs are one byte longer than the chunk.", raw_run(ZERO, 4097), 4096)
    wraps = raw_run(ZERO, 1 << 30) + raw_run(LOST, 1 << 30)
    wraps += raw_run(ZERO, 1 << 30) + raw_run(LOST, 1 << 30) + raw_run(ZERO, 4096)
    yield broken("runs-wrap", "W-46", "The runs add up to 2^32 more than the chunk.", wraps, 4096)
    yield broken("runs-cut", "W-46", "The table ends inside a run.", raw_run(ZERO, 4096) + raw_run(LOST, 1)[:-1], 4096)
    cut = raw_run(ZERO, 2048) + raw_run(ALIAS, 2048, source=0)[:-1]
    yield broken("runs-cut-source", "W-46", "The table ends inside the source of an alias.", cut, 4096)
    bare = raw_run(ZERO, 2048) + raw_run(ALIAS, 2048)
    yield broken("runs-no-source", "W-46", "The table ends where the source of an alias is due.", bare, 4096)
    over = raw_run(DATA, MIB) + raw_run(ZERO, 4096) + raw_run(DATA, 1)
    yield broken("runs-data-too-long", "W-48", "1 MiB and one byte of data in two runs.", over, MIB + 4097)


def wrong_runs() -> Iterator[Vector]:
    """Tables with one wrong run."""
    for name, rules, comment, run in (
        ("state", "W-46", "The unknown state 5.", raw_run(5, 4096)),
        ("state-255", "W-46", "The unknown state 255.", raw_run(255, 4096)),
        ("class-unknown", "W-50", "The unknown class 9.", raw_run(EXCLUDED, 4096, 9)),
        ("class-255", "W-50", "The unknown class 255.", raw_run(EXCLUDED, 4096, 255)),
        ("class-none", "W-46", "Excluded without a class.", raw_run(EXCLUDED, 4096, 0)),
        ("class-of-zero", "W-46", "A class with state zero.", raw_run(ZERO, 4096, 5)),
        ("class-of-alias", "W-46", "A class with state alias.", raw_run(ALIAS, 4096, 5, 0)),
        ("class-of-lost", "W-46", "A class with state lost.", raw_run(LOST, 4096, 5)),
        ("reserved", "W-46", "Reserved is 1.", raw_run(ZERO, 4096, reserved=1)),
        ("reserved-high", "W-46", "Reserved is 2^15.", raw_run(ZERO, 4096, reserved=0x8000)),
        ("alias-touches", "W-49", "The source ends one byte after the start.", raw_run(ALIAS, 4096, source=AT - 4095)),
        ("alias-itself", "W-49", "The source is the run itself.", raw_run(ALIAS, 4096, source=AT)),
        ("alias-forward", "W-49", "The source is behind the run.", raw_run(ALIAS, 4096, source=AT + 4096)),
        (
            "alias-wrap",
            "W-49",
            "Source and bytes add up to more than 2^64.",
            raw_run(ALIAS, 4096, source=(1 << 64) - 1),
        ),
    ):
        yield broken(f"run-{name}", rules, comment, run, 4096)
    yield broken("run-empty", "W-46", "A run of no bytes.", raw_run(ZERO, 4096) + raw_run(LOST, 0), 4096)
    for name, comment, first, second in (
        ("zero", "Two zero runs are one.", raw_run(ZERO, 2048), raw_run(ZERO, 2048)),
        ("lost", "Two lost runs are one.", raw_run(LOST, 2048), raw_run(LOST, 2048)),
        ("excluded", "Two runs of one class are one.", raw_run(EXCLUDED, 2048, 4), raw_run(EXCLUDED, 2048, 4)),
        (
            "alias",
            "The second source continues the first.",
            raw_run(ALIAS, 2048, source=0),
            raw_run(ALIAS, 2048, source=2048),
        ),
    ):
        yield broken(f"run-twice-{name}", "W-47", comment, first + second, 4096)
    yield broken("run-twice-data", "W-47", "Two data runs are one.", raw_run(DATA, 8) * 2, 16, raw=counter(16))


def numbers() -> Iterator[Vector]:
    """Offset, length and codec."""
    for length in (0, (1 << 30) + 1, (1 << 32) - 1):
        runs = raw_run(ZERO, length) if length else b""
        yield broken(f"chunk-length-{length}", "W-19", f"A length of {length}.", runs, length)
    yield of("chunk-length-1", "W-19", "A length of 1.", [("data", 1, "none", 0)], counter(1))
    far = (1 << 52) - 4096
    yield of("chunk-offset-far", "W-19", "The end of the largest image.", [("zero", 4096, "none", 0)], offset=far)
    one = values([("data", 16, "none", 0)], counter(16))
    for codec in (2, 255):
        yield bad(
            f"chunk-codec-{codec}", "W-51", "bad-field", f"The codec {codec}.", message("CHUNK", one | {"codec": codec})
        )
    missing = {name: value for name, value in one.items() if name != "digest"} | {"data": b""}
    yield bad(
        "first-missing-then-whole",
        "W-20",
        "bad-field",
        "No digest, and stored data is short.",
        message("CHUNK", missing),
    )


def encoded(data: bytes, raw: bytes = counter(1000)) -> dict[str, Value]:
    """A chunk of compressed data; raw: what it should have been made of."""
    return values([("data", len(raw), "none", 0)], raw, data, codec=1)


def data() -> Iterator[Vector]:
    """Data that can be decoded."""
    run = ("run data 1000 none 0",)
    raw = counter(1000)
    yield good("data-zstd", "W-51", "One zstd frame.", "CHUNK", encoded(zstd_stored(raw)), more=run, check="content")
    two = zstd_header(0xA0, (1000).to_bytes(4, "little"))
    two += zstd_block(0, 400, raw[:400], last=False) + zstd_block(0, 600, raw[400:], last=True)
    yield good(
        "data-zstd-blocks", "W-51", "One zstd frame of two blocks.", "CHUNK", encoded(two), more=run, check="content"
    )
    window = zstd_header(0x80, b"\x50", (1000).to_bytes(4, "little")) + zstd_block(0, 1000, raw, last=True)
    yield good(
        "data-zstd-window", "W-51", "A window of exactly 1 MiB.", "CHUNK", encoded(window), more=run, check="content"
    )
    zero = zstd_header(0xA1, b"\0", (1000).to_bytes(4, "little")) + zstd_block(0, 1000, raw, last=True)
    yield good(
        "data-zstd-dictionary-0", "W-51", "Dictionary_ID 0 is none.", "CHUNK", encoded(zero), more=run, check="content"
    )
    most = encoded(zstd_repeated(7, MIB), bytes((7,)) * MIB)
    yield good(
        "data-zstd-1MiB", "W-48", "1 MiB of raw data.", "CHUNK", most, more=(f"run data {MIB} none 0",), check="content"
    )


def wrong_data() -> Iterator[Vector]:
    """Data that any receiver can see to be wrong."""
    one = values([("data", 16, "none", 0)], counter(16))
    for size in (0, 15, 17):
        yield bad(
            f"data-stored-{size}",
            "W-51",
            "bad-codec",
            f"{size} stored bytes for 16 of raw data.",
            message("CHUNK", one | {"data": counter(size)}),
        )
    none = values([("zero", 4096, "none", 0)], b"")
    yield bad(
        "data-of-none",
        "W-51",
        "bad-codec",
        "A byte where no raw data is due.",
        message("CHUNK", none | {"data": b"\0"}),
    )
    for name, empty in (("", b""), ("-frame", zstd_stored(b""))):
        yield bad(
            f"data-of-none-zstd{name}",
            "W-51",
            "bad-codec",
            "codec zstd where no raw data is due.",
            message("CHUNK", none | {"codec": 1, "data": empty}),
        )


def wrong_frames() -> Iterator[Vector]:
    """zstd frames that a decoder must refuse."""
    raw = counter(1000)
    size, less, more = (number.to_bytes(4, "little") for number in (1000, 999, 1001))
    block = zstd_block(0, 1000, raw, last=True)
    short, long = (zstd_block(0, number, counter(number), last=True) for number in (999, 1001))
    whole = zstd_header(0xA0, size) + block
    huge = zstd_header(0xE0, ((1 << 32) + 1000).to_bytes(8, "little")) + block
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    for name, comment, frame in (
        ("empty", "No data at all.", b""),
        ("garbage", "Not zstd.", raw),
        ("cut", "The last byte is missing.", whole[:-1]),
        ("cut-header", "The frame ends inside its header.", whole[:6]),
        ("trailing", "One byte after the frame.", whole + b"\0"),
        ("twice", "Two frames.", whole + zstd_stored(b"")),
        ("skippable", "A skippable frame before the frame.", skippable + whole),
        ("skippable-after", "A skippable frame after the frame.", whole + skippable),
        ("no-size", "No content size.", zstd_header(0x00, b"\x00") + block),
        ("size-small", "A content size that is one too small.", zstd_header(0xA0, less) + block),
        ("size-large", "A content size that is one too large.", zstd_header(0xA0, more) + block),
        ("size-lies", "The content size is right, the content shorter.", zstd_header(0xA0, size) + short),
        ("content-long", "The content size is right, the content longer.", zstd_header(0xA0, size) + long),
        ("window", "A window of 1 MiB and an eighth.", zstd_header(0x80, b"\x51", size) + block),
        ("window-most", "The largest window that there is.", zstd_header(0x80, b"\xff", size) + block),
        ("dictionary", "A dictionary id.", zstd_header(0xA1, b"\x01", size) + block),
        ("reserved", "The reserved bit of the frame header.", zstd_header(0xA8, size) + block),
        ("block-type", "The reserved type of block.", zstd_header(0xA0, size) + zstd_block(3, 1000, raw, last=True)),
        ("size-4GiB", "A content size of 2^32 + 1000.", huge),
    ):
        yield bad(f"zstd-{name}", "W-51 W-52", "bad-codec", comment, message("CHUNK", encoded(frame)), check="content")


def digests() -> Iterator[Vector]:
    """Chunks whose digest is of something else."""
    runs: Runs = [("data", 1000, "none", 0)]
    right = values(runs, counter(1000))
    other: Runs = [("data", 500, "none", 0), ("zero", 500, "none", 0)]
    for name, comment, digest in (
        ("random", "Any 32 bytes.", fill("wrong", 32)),
        ("data", "The digest of other data.", values(runs, counter(1000, 1))["digest"]),
        ("offset", "The digest of the same chunk elsewhere.", values(runs, counter(1000), offset=0)["digest"]),
        ("runs", "The digest of the same range in other runs.", values(other, counter(500))["digest"]),
    ):
        yield bad(
            f"digest-{name}",
            "W-53 W-80",
            "bad-digest",
            comment,
            message("CHUNK", right | {"digest": digest}),
            check="content",
        )


def vectors() -> Iterator[Vector]:
    """All of this module."""
    for group in (tables, wrong_tables, wrong_runs, numbers, data, wrong_data, wrong_frames, digests):
        yield from group()
