"""A part of the faults with every run, and a store that is broken on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.store import durable, writer
from tests.campaign.frame import Tally, look_at
from tests.crashes import disk_faults

if TYPE_CHECKING:
    from netdump.store.files import File, Files


def test_some_faults() -> None:
    tally = Tally()
    for case in range(5, disk_faults.cases(), 181):
        look_at(case, disk_faults.look, tally)
    assert not tally.findings, tally.findings
    assert tally.counts["deliveries interrupted"] > 10


def test_trust_in_a_second_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """[S-04]: after a failed sync the next one succeeds and has made nothing durable."""
    real = durable.publish

    def stubborn(files: Files, file: File, partial: str, name: str) -> None:
        try:
            file.sync()
        except OSError:
            file.sync()
        real(files, file, partial, name)

    monkeypatch.setattr(writer, "publish", stubborn)
    tally = Tally()
    for case in range(2, disk_faults.cases() // 2, 3):  # EIO, once
        look_at(case, disk_faults.look, tally)
        if tally.findings:
            return
    pytest.fail("nothing was found")
