"""netdump.wire runs every vector; the generator writes every vector as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from netdump.pages import ExcludeClass, PageState
from tests.protocol import generate_wire, vector_file
from tests.protocol.contents import Contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.protocol.vector_file import Vector

VECTORS = vector_file.load()
ROLES = {role.value: role for role in wire.Role}
# The frames of these cross: the client sends before the ACK that is above them in the file has arrived.
CROSSING = ("credit-lowered", "credit-lowered-over", "credit-lowered-later")


def of_kind(kind: str) -> list[Vector]:
    return [vector for vector in VECTORS if vector.kind == kind]


def by_name(vector: Vector) -> str:
    return vector.name


def outcome(call: Callable[[], object]) -> str:
    """``ok``, or the reason of the error. Anything but RemoteProtocolError comes through."""
    try:
        call()
    except RemoteProtocolError as error:
        return error.reason
    return "ok"


def test_generator_writes_what_is_there() -> None:
    generated = {name: vector.text() for name, vector in generate_wire.generate().items()}
    present = {path.stem: path.read_text("ascii") for path in vector_file.FOLDER.iterdir()}
    assert generated == present


def test_form() -> None:
    for vector in VECTORS:
        assert vector.kind in vector_file.KINDS, vector.name
        assert vector.check in vector_file.CHECKS, vector.name
        assert vector.expect == "ok" or vector.expect.upper().replace("-", "_") in wire.ErrorCode.__members__, (
            vector.name
        )
        assert vector.text().isascii(), vector.name


# Frames and documents


@pytest.mark.parametrize("vector", of_kind("frame"), ids=by_name)
def test_frame(vector: Vector) -> None:
    frame = vector.joined_bytes()
    if vector.check == "content" and vector.expect != "ok":
        message = wire.unpack(frame)
        assert outcome(lambda: Contents().check(message)) == vector.expect
        return
    assert outcome(lambda: wire.unpack(frame)) == vector.expect
    if vector.expect == "ok":
        message = wire.unpack(frame)
        check_message(vector, message)
        if vector.check == "content":
            Contents().check(message)


def check_message(vector: Vector, message: wire.Message) -> None:
    """The message holds what the vector says, and nothing else; what is packed of it is read as the same."""
    assert vector.words("message") == [type(message).__name__.upper()]
    plain = message._asdict()
    plain.pop("frame", None)
    if isinstance(message, wire.Chunk):
        plain["runs"] = plain.pop("table")
        check_runs(vector, message)
    if isinstance(message, wire.Decline | wire.Error):
        code = message.code
        means = code.slug if isinstance(code, wire.DeclineCode | wire.ErrorCode) else "unknown"
        assert vector.words("means") == [means]
    listed = dict(line.split(" ", 1) for line in vector.words("field"))
    if isinstance(message, wire.Error):
        plain.pop("code"), listed.pop("code")  # the number of an unknown code is not kept [W-71]
    for name, value in plain.items():
        if name in listed:
            assert shown(value) == listed.pop(name), name
        else:
            assert value == type(message)._field_defaults[name], name
    assert not listed
    assert bare(wire.unpack(wire.pack(message))) == bare(message)


def bare(message: wire.Message) -> wire.Message:
    """A message without the frame it came in."""
    return message._replace(frame=b"") if isinstance(message, wire.Chunk) else message


def check_runs(vector: Vector, chunk: wire.Chunk) -> None:
    runs = wire.unpack_runs(chunk.table, chunk.offset, chunk.length)
    lines = [f"{run.state.name} {run.length} {run.exclude.name} {run.source}".lower() for run in runs]
    assert lines == vector.words("run")
    assert wire.pack_runs(runs) == chunk.table
    assert all(isinstance(run.state, PageState) and isinstance(run.exclude, ExcludeClass) for run in runs)


def shown(value: object) -> str:
    """A value as vectors write it."""
    if isinstance(value, bytes | memoryview):
        return value.hex() or "-"
    if isinstance(value, str):
        return json.dumps(value)
    assert isinstance(value, int)
    return str(int(value))


@pytest.mark.parametrize("vector", of_kind("document"), ids=by_name)
def test_document(vector: Vector) -> None:
    raw = vector.joined_bytes()
    assert outcome(lambda: wire.unpack_document(raw)) == vector.expect
    if vector.expect == "ok":
        document = wire.unpack_document(raw)
        present = [f"{name} {shown(value)}" for name, value in document._asdict().items() if value is not None]
        assert present == vector.words("field")
        assert wire.unpack_document(wire.pack_document(document)) == document


# Digests

FUNCTIONS: dict[str, Callable[..., bytes]] = {
    "chunk_digest": wire.chunk_digest,
    "chain_start": wire.chain_start,
    "chain_link": wire.chain_link,
    "root": wire.root_digest,
    "dump_id": wire.dump_identity,
}
INTEGERS = ("offset", "length", "image_bytes", "chunks", "level")


@pytest.mark.parametrize("vector", of_kind("digest"), ids=by_name)
def test_digest(vector: Vector) -> None:
    inputs: dict[str, int | bytes] = {}
    for line in vector.words("input"):
        name, _, text = line.partition(" ")
        inputs[name] = int(text) if name in INTEGERS else bytes.fromhex(text.replace("-", ""))
    (function,) = vector.words("function")
    assert FUNCTIONS[function](*inputs.values()).hex() == vector.words("result")[0]


# Scripts


def whole(frame: bytes, last: bool) -> Iterator[bytes]:
    yield frame


def bytewise(frame: bytes, last: bool) -> Iterator[bytes]:
    for at in range(len(frame)):
        yield frame[at : at + 1]


def with_junk(frame: bytes, last: bool) -> Iterator[bytes]:
    yield frame + b"\xff" * 9 if last else frame


class Runner:
    """Two cores, and what each makes of the frames of the other."""

    def __init__(self, vector: Vector, cut: Callable[[bytes, bool], Iterator[bytes]]) -> None:
        self.vector = vector
        self.cut = cut
        self.contents = Contents()
        self.connect()

    def connect(self) -> None:
        self.now = 0.0
        self.peers = {role: wire.Connection(role, 0.0) for role in wire.Role}
        self.contents.connect()

    def run(self) -> str:
        """All lines; the result is ok or the slug of the failure."""
        result = "ok"
        for number, line in enumerate(self.vector.body):
            assert result == "ok", "a line after the failure"
            word, *rest = line.split(" ")
            match word:
                case "client" | "collector":
                    last = number == len(self.vector.body) - 1
                    result = self.frame(ROLES[word], rest[0], bytes.fromhex(rest[1]), last=last)
                case "timer":
                    result = self.timer(ROLES[rest[0]], rest[1])
                case "clock":
                    self.now = float(rest[0])
                case "state":
                    assert {peer.state.name for peer in self.peers.values()} == {rest[0]}
                case "end":
                    peer = self.peers[ROLES[rest[0]].peer]
                    peer.receive_eof()
                    assert peer.next_event() is None
                    assert peer.cut == (rest[1] == "cut")
                case "connect":
                    self.connect()
                case _:
                    pytest.fail(f"unknown word {word}")
        return result

    def frame(self, sender: wire.Role, expected: str, frame: bytes, *, last: bool) -> str:
        if expected not in {"skipped", "ignored"}:
            self.send(sender, expected, frame)
        peer = self.peers[sender.peer]
        if self.crossing(peer):
            return "ok"
        events, failure = self.feed(peer, frame, last=last)
        accepted = expected in {"ok", "skipped", "ignored"}
        if failure and not (accepted and last and self.cut is with_junk):
            assert failure.reason == expected
            check_failed(peer, failure)
            return expected
        assert accepted
        assert len(events) == (expected == "ok")
        return "ok"

    def feed(
        self, peer: wire.Connection, frame: bytes, *, last: bool
    ) -> tuple[list[wire.Message], RemoteProtocolError | None]:
        """What the peer makes of a frame: messages, and the failure that ends them."""
        events: list[wire.Message] = []
        try:
            for piece in self.cut(frame, last):
                peer.receive_data(piece, self.now)
                while (event := peer.next_event()) is not None:
                    self.contents.check(event)
                    events.append(event)
        except RemoteProtocolError as error:
            return events, error
        return events, None

    def send(self, sender: wire.Role, expected: str, frame: bytes) -> None:
        """The sender's core makes the same frame, or refuses it for the reason that the receiver has."""
        if self.crossing(self.peers[sender]):
            return
        if outcome(lambda: wire.unpack(frame)) != "ok":
            return  # the core has no way to send this
        message = wire.unpack(frame)
        content = self.vector.check == "content" and not expected.startswith("bad-order")
        if expected == "ok" or content:
            assert self.peers[sender].send(message, self.now) == frame
        else:
            with pytest.raises(LocalProtocolError) as refused:
                self.peers[sender].send(message, self.now)
            assert refused.value.reason == expected

    def crossing(self, peer: wire.Connection) -> bool:
        """Whether this is a client that does not know yet what the collector does."""
        started = peer.role is wire.Role.CLIENT and peer.state is wire.State.STREAMING
        return started and self.vector.name in CROSSING

    def timer(self, role: wire.Role, expected: str) -> str:
        peer = self.peers[role]
        due = peer.next_timer()
        assert due is not None
        assert (due <= self.now) == (expected != "nothing")
        if expected != "keepalive":
            # Made by on_time or by the next line: either way it is the frame of the vector.
            result = outcome(lambda: peer.on_time(self.now))
            assert result == ("ok" if expected == "nothing" else expected)
            return result
        return "ok"


def check_failed(peer: wire.Connection, error: ProtocolError) -> None:
    """A connection that has failed says so once more, tells the peer, and is closed."""
    if error.reason not in {"bad-digest", "bad-codec"} and peer.state is not wire.State.CLOSED:
        told = wire.unpack(peer.fail(error, 0.0))
        assert isinstance(told, wire.Error)
        assert told.code.slug == error.reason
    else:
        peer.fail(error, 0.0)
    assert peer.state is wire.State.CLOSED
    assert peer.fail(error, 0.0) == b""


@pytest.mark.parametrize("cut", [whole, bytewise, with_junk])
@pytest.mark.parametrize("vector", of_kind("script"), ids=by_name)
def test_script(vector: Vector, cut: Callable[[bytes, bool], Iterator[bytes]]) -> None:
    assert Runner(vector, cut).run() == vector.expect
