"""A part of the states with every run; and stores that are broken on purpose are found out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.store import durable, store, writer
from tests.campaign.frame import Tally, look_at
from tests.crashes import store_life
from tests.crashes.store_life import POINTS, look

if TYPE_CHECKING:
    from netdump.store.files import Buffer, File, Files


def found_out() -> bool:
    tally = Tally()
    store_life._seen.cache_clear()
    for case in range(20, POINTS, 3):
        look_at(case, look, tally)
        if tally.findings:
            return True
    return False


def test_recovery_from_every_state() -> None:
    tally = Tally()
    store_life._seen.cache_clear()
    for case in range(3, POINTS, 40):
        look_at(case, look, tally)
    assert not tally.findings, tally.findings
    assert tally.counts["different states"] > 100


def publish_without_syncing_data(files: Files, file: File, partial: str, name: str) -> None:
    file.close()
    files.rename(partial, name)
    files.sync_folder(name.rpartition("/")[0])


def publish_without_syncing_the_name(files: Files, file: File, partial: str, name: str) -> None:
    file.sync()
    file.close()
    files.rename(partial, name)


def write_in_place(files: Files, name: str, data: Buffer) -> None:
    durable.discard(files, name)
    file = files.create(name)
    file.write(data)
    file.sync()
    file.close()
    files.sync_folder(name.rpartition("/")[0])


@pytest.mark.parametrize("broken", [publish_without_syncing_data, publish_without_syncing_the_name])
def test_a_store_that_forgets_a_sync_is_found_out(monkeypatch: pytest.MonkeyPatch, broken: object) -> None:
    monkeypatch.setattr(writer, "publish", broken)
    assert found_out()


def test_a_store_that_writes_in_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "write_durably", write_in_place)
    monkeypatch.setattr(writer, "write_durably", write_in_place)
    assert found_out()
