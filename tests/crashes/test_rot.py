"""A part of the bits with every run; and what does not look is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.codec import decode
from netdump.errors import CodecError
from netdump.index import rows
from netdump.store import segment
from netdump.store.totals import data_bytes
from tests.campaign.frame import Tally, look_at
from tests.crashes import rot

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from netdump.wire import Chunk


def looked_at(cases: int, medium: str = "") -> Tally:
    """What comes of them, until a medium that is named has a finding."""
    tally = Tally()
    for case in range(cases):
        if medium and tally.findings:
            break
        if medium in {"", rot.places()[case * rot.STRIDE % len(rot.places())].medium}:
            look_at(case, rot.look, tally)
    return tally


def test_some_bits() -> None:
    tally = looked_at(300)
    assert not tally.findings, tally.findings
    assert tally.counts["bits found"] > 250


def test_segments_that_are_not_verified_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(chunk: Chunk) -> object:
        try:
            return decode(chunk.codec, chunk.data, data_bytes(chunk.table))
        except CodecError:
            return bytes(data_bytes(chunk.table))

    monkeypatch.setattr(segment, "verify_chunk", trusting)
    assert looked_at(300, "fetch").findings or looked_at(300, "store").findings


def test_an_index_without_seal_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., str] = rows._seal

    class Anything(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    assert len(rot._records()) == 2
    monkeypatch.setattr(rows, "_seal", lambda row: Anything(real(row)))
    assert looked_at(9000, "index").findings
