from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import PageState
from netdump.testing.elf_writer import counter_pages
from netdump.vmcore.pagescan import SCAN_BYTES_MAX, Block, equal_pages, page_states

DATA, ZERO, LOST = PageState.DATA, PageState.ZERO, PageState.LOST
PAGE = 4096


def states(content: bytes, lead: int = PAGE, lost: list[tuple[int, int]] | None = None) -> list[tuple[PageState, int]]:
    buffer = bytearray(b"\xff" * 100 + content + b"\xff" * 100)  # what lies around must not matter
    return page_states(Block(buffer, 100, len(content), lead, PAGE), lost or [])


def test_runs_of_pages() -> None:
    content = counter_pages(1, 2) + bytes(3 * PAGE) + counter_pages(9, 1)
    assert states(content) == [(DATA, 2 * PAGE), (ZERO, 3 * PAGE), (DATA, PAGE)]
    assert states(bytes(SCAN_BYTES_MAX)) == [(ZERO, SCAN_BYTES_MAX)]
    assert states(counter_pages(1, 256)) == [(DATA, SCAN_BYTES_MAX)]


def test_one_byte_makes_data_wherever_it_stands() -> None:
    for at in (0, 1, 2047, 4095):
        page = bytearray(PAGE)
        page[at] = 1
        assert states(bytes(PAGE) + page + bytes(PAGE)) == [(ZERO, PAGE), (DATA, PAGE), (ZERO, PAGE)]


def test_partial_pages() -> None:
    assert states(bytes(100) + counter_pages(1, 1) + bytes(7), lead=100) == [(ZERO, 100), (DATA, PAGE), (ZERO, 7)]
    assert states(b"x", lead=1) == [(DATA, 1)]
    assert states(b"\0" * 10 + b"x", lead=100) == [(DATA, 11)]


def test_a_page_that_is_lost_in_part_is_lost() -> None:
    content = counter_pages(1, 4)
    assert states(content, lost=[(PAGE + 10, 1)]) == [(DATA, PAGE), (LOST, PAGE), (DATA, 2 * PAGE)]
    assert states(content, lost=[(PAGE - 1, 2)]) == [(LOST, 2 * PAGE), (DATA, 2 * PAGE)]
    assert states(bytes(2 * PAGE), lost=[(0, 1)]) == [(LOST, PAGE), (ZERO, PAGE)]
    assert states(content, lost=[(0, 4 * PAGE)]) == [(LOST, 4 * PAGE)]
    assert states(content[:-96], lead=PAGE - 96, lost=[(4 * PAGE - 97, 1)])[-1] == (LOST, PAGE)


def test_equal_pages() -> None:
    content = counter_pages(1, 4)
    other = bytearray(content)
    other[PAGE * 2 + 5] ^= 1
    block = Block(bytearray(b"\xff" * 7 + content), 7, len(content), PAGE, PAGE)
    assert equal_pages(block, memoryview(content), []) == [(True, 4 * PAGE)]
    assert equal_pages(block, memoryview(other), []) == [(True, 2 * PAGE), (False, PAGE), (True, PAGE)]
    assert equal_pages(block, memoryview(content), [(PAGE, 1)]) == [(True, PAGE), (False, PAGE), (True, 2 * PAGE)]


KINDS = st.lists(st.sampled_from("zdl"), min_size=1, max_size=12)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(KINDS, st.integers(1, 16), st.integers(0, 15), st.integers(0, 40))
def test_every_grid(kinds: list[str], lead: int, cut: int, at: int) -> None:
    """A small page size, any lead and any end: runs say of each byte what its page holds."""
    size = 16
    lengths = [lead] + [size] * (len(kinds) - 1)
    lengths[-1] = max(1, lengths[-1] - cut)
    content = b"".join((b"\0" if kind == "z" else b"d") * length for kind, length in zip(kinds, lengths, strict=True))
    edges = [sum(lengths[:number]) for number in range(len(lengths))]
    lost = [(edge, 1) for edge, kind in zip(edges, kinds, strict=True) if kind == "l"]
    buffer = bytearray(b"\0" * at + content + b"\0" * 9)
    runs = page_states(Block(buffer, at, len(content), lead, size), lost)
    names = {"z": ZERO, "d": DATA, "l": LOST}
    expected = [names[kind] for kind, length in zip(kinds, lengths, strict=True) for _ in range(length)]
    assert [state for state, length in runs for _ in range(length)] == expected
    assert all(one[0] != two[0] for one, two in itertools.pairwise(runs))
