"""A client and a collector in memory, just large enough to bring a dump over any number of bad connections.

They keep the rules of wire.md that the core leaves to its users: digests, durability, resuming, fencing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.errors import RemoteProtocolError
from netdump.pages import PageState, Run
from netdump.wire import (
    CREDIT_MIN,
    Ack,
    Chunk,
    CodecId,
    Decline,
    DeclineCode,
    Finish,
    Headline,
    Hello,
    Message,
    Receipt,
    Resume,
    Role,
    State,
    chain_link,
    chain_start,
    chunk_digest,
    pack_runs,
    raw_bytes,
    root_digest,
    unpack_runs,
)

if TYPE_CHECKING:
    from random import Random

    from netdump.testing.lossy import LossyPipe

DOCUMENT_DIGEST = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # of no bytes


class Dump:
    """What the collector has of a dump. Everything in here is durable; image is what it restores to so far."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.headline = False
        self.chunks = 0
        self.chain = chain_start(hello.dump_id, hello.image_bytes)
        self.image = bytearray()
        self.root: bytes | None = None

    def publish(self, chunk: Chunk) -> None:
        """Make a verified chunk durable."""
        assert chunk.offset == len(self.image)
        data = bytes(chunk.data)
        for run in unpack_runs(chunk.table, chunk.offset, chunk.length):
            if run.state is PageState.DATA:
                self.image += data[: run.length]
                data = data[run.length :]
            elif run.state is PageState.ALIAS:
                self.image += self.image[run.source : run.source + run.length]
            else:
                self.image += bytes(run.length)
        self.chunks += 1
        self.chain = chain_link(self.chain, chunk.digest)


class Session:
    """One connection at the collector. pending: chunks that are verified and not durable."""

    def __init__(self, pipe: LossyPipe, dumps: dict[bytes, Dump], random: Random) -> None:
        self.pipe = pipe
        self.dumps = dumps
        self.random = random
        self.dump: Dump | None = None
        self.pending: list[Chunk] = []

    def handle(self, message: Message, others: list[Session]) -> None:
        """Do what a message demands. Raises RemoteProtocolError."""
        match message:
            case Hello():
                self.answer(message, others)
            case Headline():
                if message.digest != DOCUMENT_DIGEST or bytes(message.body):
                    raise RemoteProtocolError("bad-digest", "the headline's")
                self.open_dump.headline = True
            case Chunk():
                self.pending.append(verified(message))
                if self.random.random() < 0.3:
                    self.publish()
            case Finish():
                self.publish()
                self.finish(message)
            case _:
                pass

    @property
    def open_dump(self) -> Dump:
        """The dump that HELLO named."""
        assert self.dump
        return self.dump

    def answer(self, hello: Hello, others: list[Session]) -> None:
        """RESUME, or what else HELLO deserves. Older connections of the dump are fenced first."""
        self.dump = dump = self.dumps.setdefault(hello.dump_id, Dump(hello))
        for other in others:
            if other is not self and other.dump is dump:
                other.pending.clear()
                other.dump = None
                other.pipe.fail(Role.COLLECTOR, RemoteProtocolError("fenced", "a newer connection"))
        if hello[1:4] != dump.hello[1:4]:
            self.pipe.send(Role.COLLECTOR, Decline(DeclineCode.MISMATCH))
        elif dump.root:
            self.pipe.send(Role.COLLECTOR, Receipt(dump.root, b"{}"))
        else:
            resume = Resume(len(dump.image), dump.chain, dump.chunks, dump.headline, CREDIT_MIN, 5, 15)
            self.pipe.send(Role.COLLECTOR, resume)

    def publish(self) -> None:
        """Make what is pending durable, and say so."""
        for chunk in self.pending:
            self.open_dump.publish(chunk)
        if self.pending and self.pipe.collector.state is not State.CLOSED:
            self.pipe.send(Role.COLLECTOR, Ack(len(self.open_dump.image)))
        self.pending.clear()

    def finish(self, finish: Finish) -> None:
        """Complete the dump. Raises RemoteProtocolError (bad-root)."""
        dump = self.open_dump
        root = root_digest(dump.chain, dump.hello.image_bytes, dump.chunks)
        if finish.root != root:
            raise RemoteProtocolError("bad-root", "another root")
        dump.root = root
        if self.pipe.collector.state is not State.CLOSED:
            self.pipe.send(Role.COLLECTOR, Receipt(root, b"{}"))


def verified(chunk: Chunk) -> Chunk:
    """A chunk whose data and digest are right. Raises RemoteProtocolError."""
    runs = unpack_runs(chunk.table, chunk.offset, chunk.length)
    if chunk.codec is not CodecId.STORED or len(chunk.data) != raw_bytes(runs):
        raise RemoteProtocolError("bad-codec", "not stored")
    if chunk_digest(chunk.offset, chunk.length, chunk.table, chunk.data) != chunk.digest:
        raise RemoteProtocolError("bad-digest", "the chunk's")
    return chunk


class Sender:
    """The client, over all its connections. image: what is to arrive; pages of 64 bytes, equal ones become aliases."""

    PAGE = 64

    def __init__(self, image: bytes, dump_id: bytes, random: Random) -> None:
        self.image = image
        self.dump_id = dump_id
        self.random = random
        self.known = {(0, 0): chain_start(dump_id, len(image))}
        self.chain = b""
        self.done = False
        self.declined = False
        self.first: dict[bytes, int] = {}
        for at in range(0, len(image), self.PAGE):
            self.first.setdefault(image[at : at + self.PAGE], at)

    def start(self, pipe: LossyPipe) -> None:
        """Begin a connection."""
        pipe.send(Role.CLIENT, Hello(self.dump_id, len(self.image), 4096, 0))

    def handle(self, message: Message, pipe: LossyPipe) -> None:
        """Do what a message demands. Raises RemoteProtocolError."""
        match message:
            case Resume():
                self.chain = message.chain
                if self.known.setdefault((message.offset, message.chunks), message.chain) != message.chain:
                    self.known.clear()  # flipped bits may have got in there; a real client gives this collector up
                    self.known[0, 0] = chain_start(self.dump_id, len(self.image))
                    raise RemoteProtocolError("bad-root", "another chain")
                if not message.headline:
                    pipe.send(Role.CLIENT, Headline(CodecId.STORED, 0, DOCUMENT_DIGEST, b""))
            case Receipt():
                self.done = True
            case Decline():
                self.declined = True
            case _:
                pass

    def go_on(self, pipe: LossyPipe) -> None:
        """Send the next chunk, or FINISH, if that may be sent now."""
        core = pipe.client
        if core.state is not State.STREAMING:
            return
        if core.sent_offset == len(self.image):
            root = root_digest(self.chain, len(self.image), core.chunks)
            pipe.send(Role.CLIENT, Finish(len(self.image), core.chunks, root))
            return
        chunk = self.cut(core.sent_offset)
        if core.may_send(len(chunk.data)):
            pipe.send(Role.CLIENT, chunk)
            self.chain = chain_link(self.chain, chunk.digest)
            self.known[core.sent_offset, core.chunks] = self.chain

    def cut(self, offset: int) -> Chunk:
        """The chunk from an offset on, of a random number of pages."""
        runs: list[Run] = []
        data = b""
        end = min(offset + self.PAGE * self.random.randint(1, 20), len(self.image))
        for at in range(offset, end, self.PAGE):
            page = self.image[at : min(at + self.PAGE, end)]
            run = self.run(page, at)
            data += page if run.state is PageState.DATA else b""
            runs = joined(runs, run)
        table = pack_runs(runs)
        digest = chunk_digest(offset, end - offset, table, data)
        return Chunk(offset, end - offset, table, digest, CodecId.STORED, data)

    def run(self, page: bytes, at: int) -> Run:
        """What one page is."""
        source = self.first.get(page, at)
        if page == bytes(len(page)):
            return Run(PageState.ZERO, len(page))
        if source + len(page) <= at:
            return Run(PageState.ALIAS, len(page), source=source)
        return Run(PageState.DATA, len(page))


def joined(runs: list[Run], run: Run) -> list[Run]:
    """The runs with one more, which may lengthen the last."""
    if not runs or runs[-1].state is not run.state:
        return [*runs, run]
    last = runs[-1]
    if run.state is PageState.ALIAS and last.source + last.length != run.source:
        return [*runs, run]
    return [*runs[:-1], last._replace(length=last.length + run.length)]
