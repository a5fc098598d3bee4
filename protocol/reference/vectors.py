"""Runs the vectors of ../vectors: reads their files, lets the decoder judge, and compares; see vectors/README.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import digests
import frames
from chunks import CLASSES, STATES, read_chunk, read_headline
from connection import Connection
from frames import Field, Value, WireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = {"kind", "expect", "rule", "check", "comment"}
Lines = list[tuple[str, list[str]]]


class VectorError(Exception):
    """The decoder says something else than the vector; the text tells what."""


class UnknownVectorError(Exception):
    """The vector has a key, a kind or a word that is not known: it is to be skipped."""


class Vector(NamedTuple):
    """A vector file: its header and the words of each line of its body."""

    header: dict[str, str]
    body: Lines


def read_vector(path: Path) -> Vector:
    """Read the file at path. Raises UnknownVectorError, OSError."""
    head, _, body = path.read_text("ascii").partition("\n\n")
    header = dict(line.split(": ", 1) for line in head.splitlines())
    if set(header) != KEYS:
        raise UnknownVectorError(f"the keys are {sorted(header)}")
    lines: Lines = []
    for line in body.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            lines.append((word, rest.split(" ") if rest else []))
    return Vector(header, lines)


def run_vector(path: Path) -> None:
    """Run the vector at path. Raises VectorError if the decoder disagrees, UnknownVectorError, OSError."""
    vector = read_vector(path)
    runners = {"frame": _run_frame, "document": _run_document, "digest": _run_digest, "script": _run_script}
    runner = runners.get(vector.header["kind"])
    if runner is None:
        raise UnknownVectorError(f"the kind {vector.header['kind']}")
    runner(vector)


def _demand(fact: bool, what: str) -> None:
    if not fact:
        raise VectorError(what)


def _octets(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def _bytes_of(vector: Vector) -> bytes:
    return b"".join(_octets(words[0]) for word, words in vector.body if word == "bytes")


def _expect(vector: Vector, decode: Callable[[], Lines]) -> None:
    """Let decode tell what the bytes mean, in lines like those of the body, and compare; or its failure."""
    expect = vector.header["expect"]
    try:
        told = decode()
    except WireError as error:
        _demand(error.code == expect, f"{error}, expected {expect}")
        return
    _demand(expect == "ok", f"accepted, expected {expect}")
    wanted = [line for line in vector.body if line[0] != "bytes"]
    _demand(told == wanted, f"decoded {told}, expected {wanted}")


def _show(value: Value, field: Field) -> str:
    if isinstance(value, bytes):
        return value.hex() or "-"
    return json.dumps(value) if field.kind == "text" else str(value)


def _field_lines(values: dict[str, Value], known: dict[int, Field]) -> Lines:
    # A text may hold blanks, so it is split as the words of a line are.
    return [
        ("field", f"{field.name} {_show(values[field.name], field)}".split(" "))
        for field in known.values()
        if field.name in values
    ]


def _run_frame(vector: Vector) -> None:
    _refuse_words(vector, {"bytes", "message", "field", "run", "means"})
    octets, contents = _bytes_of(vector), vector.header["check"] == "content"
    _expect(vector, lambda: _frame_lines(octets, contents))


def _frame_lines(octets: bytes, contents: bool) -> Lines:
    """Judge one frame alone and tell it as a vector does. Raises WireError."""
    header = frames.read_header(octets[: frames.HEADER_BYTES])
    if header.kind is None:
        return []
    payload = octets[frames.HEADER_BYTES :]
    _demand(len(payload) == header.length, f"{len(payload)} bytes of payload, the header says {header.length}")
    message = frames.read_message(header.kind, payload)
    name = message.kind.name
    lines: Lines = [("message", [name]), *_field_lines(dict(message.values), dict(message.kind.fields))]
    if name == "RESUME":
        frames.check_resume(message)
    elif name == "HEADLINE":
        read_headline(message)
    elif name == "CHUNK":
        for run in read_chunk(message, frames.IMAGE_MAX, check_digest=contents).runs:
            lines.append(("run", [STATES[run.state], str(run.length), CLASSES[run.reason], str(run.source or 0)]))
    elif name == "ERROR":
        lines.append(("means", [frames.error_name(message.number("code"))]))
    elif name == "DECLINE":
        lines.append(("means", [frames.decline_name(message.number("code"))]))
    return lines


def _run_document(vector: Vector) -> None:
    _refuse_words(vector, {"bytes", "field"})
    known = frames.HEADLINE_DOCUMENT
    _expect(vector, lambda: _field_lines(frames.read_fields(_bytes_of(vector), known), known))


def _refuse_words(vector: Vector, known: set[str]) -> None:
    unknown = {word for word, _ in vector.body} - known
    if unknown:
        raise UnknownVectorError(f"the words {sorted(unknown)}")


def _run_digest(vector: Vector) -> None:
    _refuse_words(vector, {"function", "input", "result"})
    inputs = {words[0]: words[1] for word, words in vector.body if word == "input"}
    texts = {word: words[0] for word, words in vector.body if word != "input"}

    def number(name: str) -> int:
        return int(inputs[name])

    def octets(name: str) -> bytes:
        return _octets(inputs[name])

    functions: dict[str, Callable[[], bytes]] = {
        "chunk_digest": lambda: digests.chunk_digest(number("offset"), number("length"), octets("runs"), octets("raw")),
        "chain_start": lambda: digests.chain_start(octets("dump_id"), number("image_bytes")),
        "chain_link": lambda: digests.chain_link(octets("chain"), octets("digest")),
        "root": lambda: digests.root_of(octets("chain"), number("image_bytes"), number("chunks")),
        "dump_id": lambda: digests.dump_id(
            number("level"), number("image_bytes"), octets("headers"), octets("notes"), octets("extra")
        ),
    }
    if texts["function"] not in functions:
        raise UnknownVectorError(f"the function {texts['function']}")
    result = functions[texts["function"]]()
    _demand(result.hex() == texts["result"], f"{result.hex()}, expected {texts['result']}")


def _run_script(vector: Vector) -> None:
    _refuse_words(vector, {"client", "collector", "end", "connect", "clock", "timer", "state"})
    connection = Connection()
    outcome = "ok"
    for index, (word, words) in enumerate(vector.body):
        if word == "connect":
            connection = Connection(connection.chains)
        elif word == "clock":
            connection.seconds = int(words[0])
        elif word == "state":
            _demand(connection.state == words[0], f"line {index}: {connection.state}, expected {words[0]}")
        else:
            outcome = _outcome(connection, word, words)
            wanted = words[0] if word in {"client", "collector"} else words[1]
            _demand(outcome == wanted, f"line {index}: {word} {outcome}, expected {wanted}")
    failed = outcome if outcome in frames.ERRORS.values() else "ok"
    _demand(failed == vector.header["expect"], f"ends with {failed}, expected {vector.header['expect']}")


def _outcome(connection: Connection, word: str, words: list[str]) -> str:
    """Let the connection obey one line of a script that has an outcome, and name that."""
    if word == "timer":
        return connection.timer(words[0])
    if word == "end":
        return "cut" if connection.end() else "closed"
    if connection.state == "CLOSED":
        return "ignored"
    accepted = len(connection.messages)
    try:
        connection.receive(word, _octets(words[1]))
    except WireError as error:
        return error.code
    _demand(connection.between_frames(word), "the frame is not whole")
    return "ok" if len(connection.messages) > accepted else "skipped"
