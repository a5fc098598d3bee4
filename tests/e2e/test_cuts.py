"""Dozens of cuts of every kind in one transfer: it completes, exactly, and no cut costs more than is promised.

The campaign `cuts` does the same with two hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.cuts import KINDS, RESENT_MAX, Ordeal, draw, passes, write_core

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SEED = 12
CUTS = 24


def test_the_seed_has_cuts_of_every_kind() -> None:
    assert {draw(SEED, number).kind for number in range(CUTS)} == set(KINDS)
    assert draw(SEED, 3) == draw(SEED, 3)


def test_two_dozen_cuts(tmp_path: Path) -> None:
    core = tmp_path / "core"
    write_core(core, passes(SEED, CUTS), SEED)
    ordeal = Ordeal(tmp_path, SEED, CUTS)
    try:
        account = ordeal.send(core, timeout=300)
        assert sum(account.cuts.values()) == CUTS, "the dump was complete before all cuts had come"
        assert account.worst <= RESENT_MAX, account
        ordeal.assert_exact(core, tmp_path / "fetched")
    finally:
        ordeal.close()
