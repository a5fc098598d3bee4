"""What the index says of dumps that others delete, send again or verify while the catalog is at them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BusyError
from netdump.index.gather import gather
from netdump.index.index import Index
from netdump.index.reading import Query
from netdump.index.record import DumpRecord, State
from tests.index.stored import Sample

if TYPE_CHECKING:
    from netdump.index.catalog import LocalCatalog
    from netdump.store.store import Store


def test_damage_found_while_a_row_is_settled_stays(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample()
    with sample.open(store) as writer:
        catalog.list(Query())
        sample.write(writer)

    def gathered(store: Store, dump_id: str) -> DumpRecord:
        record = gather(store, dump_id)
        catalog.index.set_state(dump_id, State.DAMAGED, "bad digest")  # a verification ends at this moment
        return record

    monkeypatch.setattr("netdump.index.catalog.gather_anyway", gathered)
    catalog.list(Query())
    assert [(each.state, each.remark) for each in catalog.list(Query())] == [(State.DAMAGED, "bad digest")]


def test_a_dump_that_was_deleted_and_sent_again_while_it_was_read_is_not_damaged(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one segment after the other
    sample = Sample()
    sample.store(store)

    def send_again(_offset: int) -> None:
        if store.dump(sample.id).complete:
            store.delete(sample.id)
            with store.open_writer(replace(sample.origin(), created=sample.origin().created + 1)) as writer:
                sample.write(writer, 1)

    with pytest.raises(BusyError, match="sent again"):
        catalog.verify(sample.id, send_again)
    assert catalog.show(sample.id).state is State.INTERRUPTED


def test_who_is_shown_a_dump_that_was_sent_again_hears_nothing_of_the_damaged_one(
    store: Store, catalog: LocalCatalog
) -> None:
    """Whoever deleted that found the index locked, or was killed."""
    sample = Sample()
    sample.store(store)
    catalog.list(Query())
    catalog.index.set_state(sample.id, State.DAMAGED, "bad digest")
    assert catalog.show(sample.id).state is State.DAMAGED
    store.delete(sample.id)
    replace(sample, created=sample.created + 1).store(store)
    assert catalog.show(sample.id).state is State.COMPLETE
    assert [record.state for record in catalog.list(Query())] == [State.COMPLETE]


@pytest.mark.parametrize("forget", ["delete", "list"])
def test_a_dump_that_comes_again_while_it_is_forgotten_keeps_its_row(
    store: Store, catalog: LocalCatalog, monkeypatch: pytest.MonkeyPatch, forget: str
) -> None:
    """Who forgets it may have to wait for another process, and whoever receives it has its row written before."""
    sample = Sample()
    sample.store(store)
    catalog.list(Query())
    remove = Index.remove

    def come_again(index: Index, dump_id: str) -> None:
        sample.store(store)
        index.put(gather(store, dump_id))
        remove(index, dump_id)

    monkeypatch.setattr(Index, "remove", come_again)
    if forget == "delete":
        catalog.delete(sample.id)
    else:
        store.delete(sample.id)
        catalog.list(Query())
    row = catalog.index.get(sample.id)
    assert row is not None
    assert row.state is State.COMPLETE
