"""Values are in the vectors; here is what they cannot show."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.wire import chain_link, chain_start, chunk_digest, dump_identity, root_digest

TABLE = bytes(8)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=50)))
def test_pieces_are_as_the_whole(pieces: list[bytes]) -> None:
    whole = chunk_digest(7, 9, TABLE, b"".join(pieces))
    assert chunk_digest(7, 9, TABLE, pieces) == whole
    assert chunk_digest(7, 9, TABLE, [memoryview(piece) for piece in pieces]) == whole


def test_any_buffer() -> None:
    assert len({chunk_digest(0, 3, TABLE, kind(b"abc")) for kind in (bytes, bytearray, memoryview)}) == 1


def test_all_inputs_count() -> None:
    values = [
        chunk_digest(0, 3, TABLE, b"abc"),
        chunk_digest(1, 3, TABLE, b"abc"),
        chunk_digest(0, 4, TABLE, b"abc"),
        chunk_digest(0, 3, b"", b"abc"),
        chunk_digest(0, 3, TABLE, b"abd"),
        chain_start(bytes(16), 1),
        chain_start(bytes(16), 2),
        chain_link(bytes(32), bytes(32)),
        root_digest(bytes(32), 1, 2),
        root_digest(bytes(32), 2, 1),
    ]
    assert len(set(values)) == len(values)
    assert {len(value) for value in values} == {32}


def test_identity() -> None:
    """Where headers end and notes begin makes a difference. [W-85]"""
    ids = [
        dump_identity(0, 1, b"ab", b"c", b""),
        dump_identity(0, 1, b"a", b"bc", b""),
        dump_identity(0, 1, b"ab", b"", b"c"),
        dump_identity(1, 1, b"ab", b"c", b""),
        dump_identity(0, 2, b"ab", b"c", b""),
    ]
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {16}
