"""What script vectors are written with: a dump of 1000 bytes, its frames, the lines of a script. No netdump in here."""

from __future__ import annotations

from tests.protocol.crafted import (
    MIB,
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
    zstd_repeated,
)
from tests.protocol.vector_file import Vector

SIZE = 1000
DUMP_ID = fill("dump", 16)
DOCUMENT = payload(REGISTRY["headline"], {"machine": "x86_64", "nodename": "web1"})
KEEPALIVE = message("KEEPALIVE", {})
DEFER = message("DEFER", {"seconds": 60})
DECLINE = message("DECLINE", {"code": 2})


def hello(**changes: Value) -> bytes:
    """HELLO of the dump."""
    values: dict[str, Value] = {"dump_id": DUMP_ID, "image_bytes": SIZE, "page_bytes": 4096, "level": 0}
    return message("HELLO", values | changes)


def resume(**changes: Value) -> bytes:
    """RESUME at the start, headline wanted."""
    values: dict[str, Value] = {
        "offset": 0,
        "chain": chain_start(DUMP_ID, SIZE),
        "chunks": 0,
        "headline": 0,
        "credit": 2 * MIB,
        "keepalive": 5,
        "idle": 15,
    }
    return message("RESUME", values | changes)


def headline(document: bytes = DOCUMENT, **changes: Value) -> bytes:
    """HEADLINE, stored."""
    values: dict[str, Value] = {
        "codec": 0,
        "raw_bytes": len(document),
        "digest": sha256(document),
        "body": document,
    }
    return message("HEADLINE", values | changes)


def chunk_values(offset: int, length: int) -> dict[str, Value]:
    """The fields of a chunk of stored data."""
    runs = table([("data", length, "none", 0)])
    raw = counter(length, offset)
    digest = chunk_digest(offset, length, runs, raw)
    return {"offset": offset, "length": length, "runs": runs, "digest": digest, "codec": 0, "data": raw}


def chunk(offset: int, length: int) -> bytes:
    """CHUNK of stored data."""
    return message("CHUNK", chunk_values(offset, length))


def large(offset: int, length: int = MIB) -> bytes:
    """CHUNK of the same byte over and over, in few bytes. Its cost is length + 4096."""
    packed: Runs = [("data", length, "none", 0)]
    runs = table(packed)
    digest = chunk_digest(offset, length, runs, bytes((7,)) * length)
    data = zstd_repeated(7, length)
    return message(
        "CHUNK", {"offset": offset, "length": length, "runs": runs, "digest": digest, "codec": 1, "data": data}
    )


def chain(*chunks: tuple[int, int]) -> bytes:
    """The chain value after these chunks."""
    value = chain_start(DUMP_ID, SIZE)
    for offset, length in chunks:
        digest = chunk_values(offset, length)["digest"]
        assert isinstance(digest, bytes)
        value = chain_link(value, digest)
    return value


FIRST, SECOND = (0, 500), (500, 500)
ROOT = root(chain(FIRST, SECOND), SIZE, 2)


def ack(offset: int, **changes: Value) -> bytes:
    """ACK."""
    return message("ACK", {"offset": offset, **changes})


def finish(**changes: Value) -> bytes:
    """FINISH of the dump in two chunks."""
    values: dict[str, Value] = {"image_bytes": SIZE, "chunks": 2, "root": ROOT}
    return message("FINISH", values | changes)


def receipt(**changes: Value) -> bytes:
    """RECEIPT of the dump."""
    values: dict[str, Value] = {"root": ROOT, "document": b"{}\n"}
    return message("RECEIPT", values | changes)


def error(code: int) -> bytes:
    """ERROR."""
    return message("ERROR", {"code": code})


class Script:
    """Lines of a script. Each method adds one and returns the script."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> Script:
        """Any line."""
        self.lines.append(line)
        return self

    def client(self, frame: bytes, outcome: str = "ok") -> Script:
        """A frame of the client."""
        return self.say(f"client {outcome} {frame.hex()}")

    def collector(self, frame: bytes, outcome: str = "ok") -> Script:
        """A frame of the collector."""
        return self.say(f"collector {outcome} {frame.hex()}")

    def state(self, name: str) -> Script:
        """Where both are."""
        return self.say(f"state {name}")

    def vector(self, name: str, rules: str, comment: str, *, expect: str = "ok", check: str = "structure") -> Vector:
        """The finished vector."""
        return Vector(name, "script", expect, tuple(rules.split()), check, comment, tuple(self.lines))


def opened() -> Script:
    """HELLO was sent."""
    return Script().client(hello())


def wanted() -> Script:
    """The headline is due."""
    return opened().collector(resume())


def streaming(**changes: Value) -> Script:
    """Chunks are due; the changes are RESUME's."""
    return opened().collector(resume(**({"headline": 1} | changes)))


def wide(size: int, **changes: Value) -> Script:
    """Chunks of a larger image are due."""
    start: dict[str, Value] = {"chain": chain_start(DUMP_ID, size), "headline": 1}
    return Script().client(hello(image_bytes=size)).collector(resume(**(start | changes)))


def finishing() -> Script:
    """All chunks and FINISH were sent."""
    return streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).client(finish())


def closed() -> Script:
    """The collector has deferred."""
    return opened().collector(DEFER)


REACHED = {
    "OPENING": Script,
    "OPENED": opened,
    "HEADLINE": wanted,
    "STREAMING": streaming,
    "FINISHING": finishing,
    "CLOSED": closed,
}
EXAMPLES = {
    "HELLO": hello(),
    "RESUME": resume(),
    "DEFER": DEFER,
    "DECLINE": DECLINE,
    "HEADLINE": headline(),
    "CHUNK": chunk(*FIRST),
    "ACK": ack(0),
    "KEEPALIVE": KEEPALIVE,
    "FINISH": finish(),
    "RECEIPT": receipt(),
}
