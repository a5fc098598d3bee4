"""What every store promises, as tests. An implementation is tested by a class of a few lines:

    class TestLocalStore(StoreContract):
        def open_store(self, place: Path) -> Store:
            return Store(place / "dumps", clock=lambda: CLOCK)

Owns what a user of the store may rely on, whatever is behind it; not how things lie on a disk, nor what crashes do to
it. Imports pytest, so only tests import this.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from netdump.errors import (
    AmbiguousIdError,
    BusyError,
    DumpNotFoundError,
    IncompleteDumpError,
    MismatchError,
    OwnerError,
    RemoteProtocolError,
    StoreError,
)
from netdump.pages import ExcludeClass, PageState
from netdump.store.intake import verify_chunk
from netdump.store.recovery import Durable
from netdump.testing.sample_dump import SampleDump
from netdump.wire import CHUNK_COST_FLOOR, chain_start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from netdump.store.manifest import Manifest
    from netdump.store.store import Store
    from netdump.store.writer import DumpWriter
    from netdump.wire import Chunk

CLOCK: Final = 1_700_000_100
"""The time that stores under test stamp into manifests."""

_COMPLETE: Final = 1 << 30


def append_all(writer: DumpWriter, chunks: Iterable[Chunk]) -> None:
    """Verify chunks as a collector does, and append them."""
    for chunk in chunks:
        writer.append(chunk, len(verify_chunk(chunk)))


def deliver(store: Store, sample: SampleDump, chunks: int = _COMPLETE) -> Manifest | None:
    """Deliver so many chunks of a new dump, three to a segment; all of them: finish it, with headline and receipt."""
    with store.open_writer(sample.origin) as writer:
        writer.put_headline(sample.headline)
        for first in range(0, min(chunks, len(sample.chunks)), 3):
            append_all(writer, sample.chunks[first : min(first + 3, chunks)])
            writer.publish()
        if chunks < len(sample.chunks):
            return None
        manifest = writer.finish(sample.root)
        writer.put_receipt(sample.receipt(manifest))
        return manifest


class StoreContract(ABC):
    """The contract. open_store() is called again for the same place to see what a restarted collector sees."""

    @abstractmethod
    def open_store(self, place: Path) -> Store:
        """A store in that place, with CLOCK as its clock; the second time what the first has left."""

    def test_a_new_dump_begins_at_the_beginning(self, tmp_path: Path) -> None:
        """[S-15], [W-35]."""
        sample = SampleDump()
        store = self.open_store(tmp_path)
        assert store.ids() == []
        with store.open_writer(sample.origin) as writer:
            assert writer.durable == Durable(0, chain_start(sample.dump_id, len(sample.image)), 0)
            assert (writer.has_headline, writer.manifest, writer.receipt()) == (False, None, None)
            assert writer.publish() == writer.durable, "nothing to publish is no error"
            assert self.open_store(tmp_path).dump(sample.origin.id).origin == sample.origin
        assert store.ids() == [sample.origin.id]
        assert not store.dump(sample.origin.id).complete

    def test_what_is_published_is_durable_and_nothing_else(self, tmp_path: Path) -> None:
        """[W-55], [S-22]."""
        sample = SampleDump()
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            append_all(writer, sample.chunks[:4])
            assert writer.durable.offset == 0
            raw = sum(len(verify_chunk(chunk)) for chunk in sample.chunks[:4])
            assert writer.pending_cost == raw + 4 * CHUNK_COST_FLOOR
            assert writer.pending_bytes >= sum(len(chunk.frame) for chunk in sample.chunks[:4])
            durable = writer.publish()
            assert durable == Durable(sample.chunks[4].offset, sample.chain_at(sample.chunks[:4]), 4)
            assert writer.durable == durable
            assert writer.pending_cost == writer.pending_bytes == 0
            append_all(writer, sample.chunks[4:6])
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            assert writer.durable == durable

    def test_a_closed_writer_is_closed(self, tmp_path: Path) -> None:
        """close() may come twice; what comes after it is refused."""
        sample = SampleDump()
        writer = self.open_store(tmp_path).open_writer(sample.origin)
        writer.close()
        writer.close()
        with pytest.raises(StoreError):
            append_all(writer, sample.chunks[:1])
        with pytest.raises(StoreError):
            writer.put_headline(b"")

    def test_chunks_come_in_order(self, tmp_path: Path) -> None:
        """[W-45]."""
        sample = SampleDump()
        larger = SampleDump(image_bytes=len(sample.image) + 1)
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            append_all(writer, sample.chunks[:1])
            for wrong in (sample.chunks[0], sample.chunks[2]):
                with pytest.raises(RemoteProtocolError) as error:
                    append_all(writer, [wrong])
                assert error.value.reason == "bad-order"
            writer.publish()
            with pytest.raises(RemoteProtocolError):
                append_all(writer, sample.chunks[:1])
            append_all(writer, sample.chunks[1:-1])
            with pytest.raises(RemoteProtocolError) as error:
                append_all(writer, [larger.chunk(sample.chunks[-1].offset, sample.chunks[-1].length + 1)])
            assert error.value.reason == "bad-field"
            append_all(writer, sample.chunks[-1:])
            writer.finish(sample.root)

    def test_complete_means_tiled_with_that_root(self, tmp_path: Path) -> None:
        """[W-65], [S-30]. What is refused can be done right afterwards."""
        sample = SampleDump()
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            append_all(writer, sample.chunks[:-1])
            for root in (sample.root, sample.root_of(sample.chunks[:-1])):
                with pytest.raises(RemoteProtocolError) as error:
                    writer.finish(root)
                assert error.value.reason == "bad-order"
            append_all(writer, sample.chunks[-1:])
            with pytest.raises(RemoteProtocolError) as error:
                writer.finish(bytes(32))
            assert error.value.reason == "bad-root"
            assert writer.manifest is None
            made = writer.finish(sample.root, "free pages are sent too")
            assert made.remark == "free pages are sent too"
            assert writer.finish(sample.root, "another") is made, "the first one counts"
            assert writer.manifest is made

    def test_the_manifest_says_what_there_is(self, tmp_path: Path) -> None:
        """Section 5 of store.md, also when the dump came in several sessions."""
        sample = SampleDump()
        deliver(self.open_store(tmp_path), sample, 7)
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            append_all(writer, sample.chunks[7:])
            manifest = writer.finish(sample.root)
        states = {state: sum(run.length for run in sample.runs if run.state is state) for state in PageState}
        assert manifest.id == sample.origin.id
        assert manifest.host == sample.origin.host
        assert manifest.image_bytes == len(sample.image)
        assert manifest.chunks == len(sample.chunks)
        assert manifest.root == sample.root
        assert manifest.headline == hashlib.sha256(sample.headline).digest()
        assert manifest.completed == CLOCK
        assert manifest.totals.data == states[PageState.DATA]
        assert manifest.totals.zero == states[PageState.ZERO]
        assert manifest.totals.alias == states[PageState.ALIAS]
        assert manifest.totals.excluded == states[PageState.EXCLUDED]
        assert manifest.totals.lost == states[PageState.LOST]
        assert manifest.totals.stored == sum(len(chunk.frame) for chunk in sample.chunks)
        assert manifest.totals.excluded_by == {
            reason: size
            for reason in ExcludeClass
            if (size := sum(run.length for run in sample.runs if run.exclude is reason != ExcludeClass.NONE))
        }
        assert [segment.chunks for segment in manifest.segments] == [3, 3, 1, len(sample.chunks) - 7]
        assert self.open_store(tmp_path).dump(sample.origin.id).manifest == manifest

    def test_a_complete_dump_stays_as_it_is(self, tmp_path: Path) -> None:
        """[W-67]: offered again, it has its manifest and receipt, and takes nothing more."""
        sample = SampleDump()
        manifest = deliver(self.open_store(tmp_path), sample)
        assert manifest is not None
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            assert writer.manifest == manifest
            assert writer.receipt() == sample.receipt(manifest)
            assert writer.has_headline
            assert writer.durable == Durable(len(sample.image), sample.chain_at(sample.chunks), len(sample.chunks))
            with pytest.raises(StoreError):
                append_all(writer, sample.chunks[:1])
            assert writer.finish(sample.root) == manifest
            with pytest.raises(RemoteProtocolError):
                writer.finish(bytes(32))
            writer.put_receipt(sample.receipt(manifest, collector="another.example"))
            assert writer.receipt() == sample.receipt(manifest), "the first one counts"

    def test_the_first_headline_counts(self, tmp_path: Path) -> None:
        """[W-40]."""
        sample = SampleDump()
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            writer.put_headline(sample.headline)
            assert writer.has_headline
            writer.put_headline(b"")
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        assert dump.headline_bytes == sample.headline
        assert dump.read_log() == b"[    0.000000] Kernel panic\n"

    def test_a_dump_may_have_no_headline(self, tmp_path: Path) -> None:
        """The manifest says so; the log is empty."""
        sample = SampleDump()
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            append_all(writer, sample.chunks)
            assert writer.finish(sample.root).headline is None
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        assert dump.headline() is None
        assert dump.read_log() == b""
        assert dump.verify().ok

    def test_a_dump_belongs_to_its_host(self, tmp_path: Path) -> None:
        """[W-31], [W-32]: whoever is refused changes nothing, and the owner is told first."""
        sample = SampleDump()
        store = self.open_store(tmp_path)
        origin = sample.origin
        with store.open_writer(origin):
            with pytest.raises(OwnerError) as stranger:
                store.open_writer(replace(origin, host="other", image_bytes=1))
            assert origin.host not in str(stranger.value)
        for changed in (replace(origin, image_bytes=1), replace(origin, page_bytes=65536), replace(origin, level=31)):
            with pytest.raises(MismatchError):
                store.open_writer(changed)
        with store.open_writer(replace(origin, agent="newer/2", created=0, drill=True, host_key="0" * 64)) as writer:
            assert writer.origin == origin, "what was said first counts"

    def test_one_writer_at_a_time(self, tmp_path: Path) -> None:
        """[S-06]. Other dumps are not held up."""
        sample, other = SampleDump(1), SampleDump(2)
        store = self.open_store(tmp_path)
        with store.open_writer(sample.origin) as writer:
            with pytest.raises(BusyError):
                store.open_writer(sample.origin)
            with pytest.raises(BusyError):
                store.delete(sample.origin.id)
            with store.open_writer(other.origin):
                append_all(writer, sample.chunks[:2])
                writer.publish()
        with store.open_writer(sample.origin) as writer:
            assert writer.durable.chunks == 2

    def test_a_dump_is_cut_anew_after_a_break(self, tmp_path: Path) -> None:
        """wire.md 6: chunks after a RESUME need not be those of before."""
        sample = SampleDump()
        deliver(self.open_store(tmp_path), sample, 5)
        with self.open_store(tmp_path).open_writer(sample.origin) as writer:
            rest = list(sample.cut(writer.durable.offset, seed=99))
            append_all(writer, rest)
            writer.finish(sample.root_of(sample.chunks[:5] + rest))
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        assert dump.verify().ok
        assert dump.reassemble(tmp_path / "image").path.read_bytes() == sample.image

    def test_ids_may_be_shortened(self, tmp_path: Path) -> None:
        """As in git."""
        store = self.open_store(tmp_path)
        samples = [SampleDump(seed) for seed in range(1, 20)]
        for sample in samples:
            store.open_writer(sample.origin).close()
        assert store.ids() == sorted(sample.origin.id for sample in samples)
        for sample in samples:
            assert store.resolve(sample.origin.id.upper()) == sample.origin.id
            assert store.resolve(sample.origin.id[:10]) == sample.origin.id
        with pytest.raises(AmbiguousIdError):
            store.resolve(next(x for x in "0123456789abcdef" if sum(i.startswith(x) for i in store.ids()) > 1))
        for nothing in ("", "x", "../", sample.origin.id + "0"):
            with pytest.raises(DumpNotFoundError):
                store.resolve(nothing)

    def test_nothing_but_an_id_names_a_dump(self, tmp_path: Path) -> None:
        """No string of a peer leads anywhere."""
        store = self.open_store(tmp_path)
        deliver(store, SampleDump())
        for name in ("", ".", "..", "../dumps", SampleDump().origin.id[:8], SampleDump(2).origin.id, "x" * 32):
            with pytest.raises(DumpNotFoundError):
                store.dump(name)
            with pytest.raises(DumpNotFoundError):
                store.delete(name)

    def test_a_deleted_dump_is_gone(self, tmp_path: Path) -> None:
        """[S-06]. Its id is free again, for anybody."""
        sample, other = SampleDump(1), SampleDump(2)
        store = self.open_store(tmp_path)
        deliver(store, sample)
        deliver(store, other)
        store.delete(sample.origin.id)
        store.empty_trash()
        assert store.ids() == self.open_store(tmp_path).ids() == [other.origin.id]
        with pytest.raises(DumpNotFoundError):
            store.dump(sample.origin.id)
        with pytest.raises(DumpNotFoundError):
            store.delete(sample.origin.id)
        with store.open_writer(replace(sample.origin, host="other")) as writer:
            assert writer.durable.offset == 0
            assert not writer.has_headline

    def test_a_complete_dump_is_read_back(self, tmp_path: Path) -> None:
        """[S-40]."""
        sample = SampleDump()
        manifest = deliver(self.open_store(tmp_path), sample)
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        assert manifest is not None
        assert dump.complete
        assert dump.segments() == list(manifest.segments)
        assert dump.receipt == sample.receipt(manifest)
        assert dump.durable.offset == len(sample.image)
        reached: list[int] = []
        restored = dump.reassemble(tmp_path / "image", progress=reached.append)
        assert (restored.path, restored.bytes, restored.complete) == (tmp_path / "image", len(sample.image), True)
        assert restored.path.read_bytes() == sample.image
        assert reached == [chunk.offset + chunk.length for chunk in sample.chunks]
        report = dump.verify()
        assert report.ok
        assert (report.segments, report.chunks) == (len(manifest.segments), len(sample.chunks))

    def test_an_incomplete_dump_is_read_as_far_as_it_came(self, tmp_path: Path) -> None:
        """[S-41]: shorter, and under another name."""
        sample = SampleDump()
        deliver(self.open_store(tmp_path), sample, 5)
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        end = sample.chunks[5].offset
        assert not dump.complete
        assert dump.durable.offset == end
        assert [segment.end for segment in dump.segments()][-1] == end
        restored = dump.reassemble(tmp_path / "image")
        assert (restored.path.name, restored.bytes, restored.complete) == ("image.incomplete", end, False)
        assert restored.path.read_bytes() == sample.image[:end]
        assert not (tmp_path / "image").exists()
        assert dump.verify().ok
        with pytest.raises(IncompleteDumpError):
            dump.reassemble()

    def test_a_dump_of_which_nothing_arrived(self, tmp_path: Path) -> None:
        """There is nothing to restore, and that is said."""
        sample = SampleDump()
        deliver(self.open_store(tmp_path), sample, 0)
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        assert dump.segments() == []
        with pytest.raises(IncompleteDumpError):
            dump.reassemble(tmp_path / "image")
        assert dump.verify().ok

    def test_segments_are_handed_out_as_they_are(self, tmp_path: Path) -> None:
        """For fetch; only those that count, only by their names."""
        sample = SampleDump()
        deliver(self.open_store(tmp_path), sample)
        dump = self.open_store(tmp_path).dump(sample.origin.id)
        for info in dump.segments():
            with dump.open_segment(info.name) as segment:
                whole = segment.read(0, info.file_bytes + 1)
                assert len(whole) == info.file_bytes
                assert segment.read(5, 7) == whole[5:12]
                assert next(segment.chunks()).chunk.offset == info.start
        for name in ("", "..", "../origin.json", "origin.json", f"{0:016x}-{1:016x}.seg"):
            with pytest.raises(StoreError):
                dump.open_segment(name)

    def test_the_image_in_the_folder_is_a_view(self, tmp_path: Path) -> None:
        """[S-03], [S-05]: made, dropped and made again at will; never beside a writer."""
        sample = SampleDump()
        store = self.open_store(tmp_path)
        deliver(store, sample)
        dump = store.dump(sample.origin.id)

        def is_there() -> bool:
            return dump.vmcore_path is not None

        assert not is_there()
        assert dump.reassemble().path == dump.vmcore_path
        assert dump.reassemble().bytes == len(sample.image)
        assert dump.size_on_disk > 0
        dump.drop_vmcore()
        dump.drop_vmcore()
        assert not is_there()
        with store.open_writer(sample.origin), pytest.raises(BusyError):
            dump.reassemble()
        assert not is_there()
