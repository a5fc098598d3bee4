"""Findings say where and what."""

from __future__ import annotations

from netdump.errors import DamagedError
from netdump.store.findings import Damage, DamageFoundError, Finding


def test_a_finding_reads_well() -> None:
    assert str(Finding(Damage.BAD_DIGEST, "headline", None, "it differs")) == "headline: it differs (bad-digest)"
    assert str(Finding(Damage.NOT_SOUND, "x.seg", 72, "no magic")) == "x.seg, byte 72: no magic (not-sound)"


def test_the_error_is_damage_and_names_the_dump() -> None:
    error = DamageFoundError(Finding(Damage.MISSING, "origin.json", None, "it is not there"), "ab" * 16)
    assert isinstance(error, DamagedError)
    assert error.exit_status == DamagedError.exit_status
    assert "ab" * 16 in str(error)
    assert "origin.json" in str(error)
    assert error.finding.damage == "missing"
