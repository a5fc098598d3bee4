"""A client and collector in one, and the model they are held against: what was promised, and what may be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.store.intake import verify_chunk
from netdump.store.recovery import Durable
from netdump.store.store import Store
from netdump.wire import chain_link, chain_start, root_digest

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.store.dump import Dump
    from netdump.store.files import Files
    from netdump.store.writer import DumpWriter
    from netdump.testing.sample_dump import SampleDump
    from netdump.wire import Chunk

CLOCK = 1_700_000_100


class Delivery:
    """Delivers one sample dump, in as many sessions as it takes, and checks at each that every promise is kept.

    acknowledged: what a client was told is durable. complete: what it was told by the receipt of the manifest.
    """

    def __init__(self, sample: SampleDump, root: Path, chunks_per_segment: int = 3) -> None:
        self.sample = sample
        self.root = root
        self.chunks_per_segment = chunks_per_segment
        self.acknowledged = 0
        self.headline = False
        self.complete = False
        self.receipt = False
        self.sessions = 0
        start = Durable(0, chain_start(sample.dump_id, len(sample.image)), 0)
        # Every state that the dump has ever been in: what is found after a crash must be one of them.
        self.states: dict[bytes, Durable] = {start.chain: start}

    def session(self, files: Files, *, reassemble: bool = True) -> None:
        """Deliver what is missing. Any error of the store goes through, with the writer closed as a collector does."""
        self.sessions += 1
        store = Store(self.root, files, clock=lambda: CLOCK)
        writer = store.open_writer(self.sample.origin)
        try:
            self.check_opened(writer)
            self._send(writer)
        finally:
            writer.close()
        if reassemble:
            store.dump(self.sample.origin.id).reassemble()

    def check_opened(self, writer: DumpWriter) -> None:
        """What a new connection is told may not fall behind what was promised, nor be anything that never was."""
        assert writer.durable == self.states[writer.durable.chain]
        assert writer.durable.offset >= self.acknowledged
        assert writer.has_headline or not self.headline
        assert (writer.manifest is not None) or not self.complete
        assert (writer.receipt() is not None) or not self.receipt
        assert writer.pending_cost == writer.pending_bytes == 0
        self.acknowledged = writer.durable.offset

    def send_some(self, writer: DumpWriter, chunks: int) -> None:
        """Begin a delivery that is cut after so many chunks; of the last ones nothing is published."""
        self.sessions += 1
        writer.put_headline(self.sample.headline)
        self.headline = True
        state = writer.durable
        for number, chunk in zip(range(chunks), self.sample.cut(state.offset, self.sessions), strict=False):
            state = self._append(writer, chunk, state)
            if number == 0:
                assert writer.publish() == state
                self.acknowledged = state.offset

    def _send(self, writer: DumpWriter) -> None:
        if writer.manifest is None:
            if not writer.has_headline:
                writer.put_headline(self.sample.headline)
            self.headline = True
            state = writer.durable
            # Another cut at each session: nothing may depend on the same chunks coming again.
            for number, chunk in enumerate(self.sample.cut(state.offset, self.sessions)):
                state = self._append(writer, chunk, state)
                if number % self.chunks_per_segment == self.chunks_per_segment - 1:
                    assert writer.publish() == state
                    self.acknowledged = state.offset
            root = self._root(state)
        else:
            root = writer.manifest.root
        manifest = writer.finish(root)
        self.complete = True
        self.acknowledged = writer.durable.offset
        if writer.receipt() is None:
            writer.put_receipt(self.sample.receipt(manifest))
        self.receipt = True

    def _append(self, writer: DumpWriter, chunk: Chunk, state: Durable) -> Durable:
        writer.append(chunk, len(verify_chunk(chunk)))
        state = Durable(chunk.offset + chunk.length, chain_link(state.chain, chunk.digest), state.chunks + 1)
        self.states[state.chain] = state
        return state

    def _root(self, state: Durable) -> bytes:
        return root_digest(state.chain, len(self.sample.image), state.chunks)

    def check_result(self, files: Files) -> Dump:
        """The dump is there, whole and sound, and nothing else is."""
        assert self.complete
        store = Store(self.root, files)
        assert store.ids() == [self.sample.origin.id]
        dump = store.dump(self.sample.origin.id)
        assert dump.origin == self.sample.origin
        assert dump.complete
        report = dump.verify()
        assert report.ok, report.findings
        assert report.image_bytes == len(self.sample.image)
        manifest = dump.manifest
        assert manifest is not None
        assert dump.receipt == self.sample.receipt(manifest)
        headline = dump.headline()
        assert headline is not None
        assert headline.machine == "x86_64"
        return dump
