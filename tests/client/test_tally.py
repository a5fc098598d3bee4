from __future__ import annotations

from netdump.client.stream import Prepared
from netdump.client.tally import Tally
from netdump.pages import PageState, Run
from netdump.wire import Chunk, CodecId


def prepared(offset: int, data: int, zero: int = 0, compressed: int | None = None) -> Prepared:
    runs = tuple(run for run in (Run(PageState.DATA, data), Run(PageState.ZERO, zero)) if run.length)
    body = bytes(data if compressed is None else compressed)
    return Prepared(Chunk(offset, data + zero, b"", b"", CodecId.STORED, body), data, runs)


def test_counts() -> None:
    tally = Tally()
    assert tally.ratio == 1
    tally.add(prepared(0, 1000, 96, 500))
    tally.add(prepared(1096, 1000))
    assert (tally.chunks, tally.raw_bytes, tally.data_bytes, tally.resent_bytes) == (2, 2000, 1500, 0)
    assert tally.high_water == 2096
    assert tally.ratio == 2000 / 1500
    assert tally.states[PageState.DATA] == 2000
    assert tally.states[PageState.ZERO] == 96


def test_what_is_sent_again_counts_once_in_the_states() -> None:
    tally = Tally()
    for offset in (0, 1000, 2000, 0, 1000, 3000):
        tally.add(prepared(offset, 1000))
    assert tally.resent_bytes == 2000
    assert tally.raw_bytes == 6000
    assert tally.states[PageState.DATA] == 4000
    assert tally.image_bytes == 4000
    assert tally.high_water == 4000


def test_of_a_chunk_that_goes_beyond_what_was_sent_only_the_first_part_is_sent_again() -> None:
    """After a cut chunks need not be cut where they were before."""
    tally = Tally()
    tally.add(prepared(0, 1000))
    tally.add(prepared(600, 500, 96))
    assert tally.resent_bytes == 400
    assert tally.states[PageState.DATA] == 1100
    assert tally.states[PageState.ZERO] == 96
    assert tally.image_bytes == tally.high_water == 1196
