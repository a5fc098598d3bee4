"""The collector's folder after a power cut: a part of the moments with every run, and a mistake that is found out."""

from __future__ import annotations

import pytest

from netdump.pki import durable
from tests.campaign.frame import Tally, look_at
from tests.crashes import folder_life


def test_every_third_moment() -> None:
    tally = Tally()
    for case in range(0, len(folder_life.life().moments), 3):
        look_at(case, folder_life.look, tally)
    assert not tally.findings, tally.findings
    assert tally.counts["states"] > 50


def test_a_forgotten_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    broken = folder_life.Life()
    broken.live()
    monkeypatch.setattr(folder_life, "life", lambda: broken)
    tally = Tally()
    for case in range(len(broken.moments)):
        look_at(case, folder_life.look, tally)
        if tally.findings:
            return
    pytest.fail("nothing was found")
