"""The sample dumps keep the rules of the wire, whatever the seed and the cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import PageState
from netdump.store.intake import verify_chunk
from netdump.testing.sample_dump import SampleDump
from netdump.wire import unpack, unpack_document, unpack_runs


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 40_000), st.integers(1, 9000), st.integers(0, 1000))
def test_chunks_tile_the_image(seed: int, image_bytes: int, chunk_bytes: int, cut: int) -> None:
    sample = SampleDump(seed, image_bytes, chunk_bytes)
    assert len(sample.image) == image_bytes
    for chunks in (sample.chunks, list(sample.cut(0, cut))):
        image = bytearray()
        for chunk in chunks:
            assert chunk.offset == len(image)
            assert unpack(chunk.frame) == chunk
            raw, taken = bytes(verify_chunk(chunk)), 0
            for run in unpack_runs(chunk.table, chunk.offset, chunk.length):
                if run.state is PageState.DATA:
                    image += raw[taken : taken + run.length]
                    taken += run.length
                elif run.state is PageState.ALIAS:
                    image += image[run.source : run.source + run.length]
                else:
                    image += bytes(run.length)
        assert image == sample.image


def test_it_is_made_of_its_seed_alone() -> None:
    assert SampleDump(7).chunks == SampleDump(7).chunks
    assert SampleDump(7).origin == SampleDump(7).origin
    assert SampleDump(7).origin.id != SampleDump(8).origin.id
    assert SampleDump(7).image != SampleDump(8).image


def test_all_states_occur() -> None:
    sample = SampleDump()
    assert {run.state for run in sample.runs} == set(PageState)
    assert len({run.exclude for run in sample.runs}) > 2
    assert unpack_document(sample.headline).machine == "x86_64"


def test_the_root_depends_on_the_cut() -> None:
    sample = SampleDump()
    other = list(sample.cut(0, 99))
    assert sample.root_of(sample.chunks) == sample.root
    assert sample.root_of(other) != sample.root


@pytest.mark.parametrize("offset", [0, 1, 4096, 100_000])
def test_a_cut_may_begin_anywhere(offset: int) -> None:
    chunks = list(SampleDump().cut(offset, 1))
    assert chunks[0].offset == offset
    assert chunks[-1].offset + chunks[-1].length == 200_000
