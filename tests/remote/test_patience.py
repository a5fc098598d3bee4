"""Pauses between tries."""

from __future__ import annotations

from netdump.remote.patience import BRIEF, LONG, Patience


def test_pauses_double_up_to_the_longest() -> None:
    assert list(Patience(6, 1.0, 5.0).pauses(lambda: 1.0)) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert list(Patience(3, 1.0, 5.0).pauses(lambda: 0.0)) == [0.5, 1.0]
    assert list(Patience(1, 1.0, 5.0).pauses()) == []


def test_jitter_stays_within_half_a_pause() -> None:
    pauses = list(Patience(50, 4.0, 4.0).pauses())
    assert 2.0 <= min(pauses) < max(pauses) <= 4.0


def test_long_work_outlives_a_restart_and_a_person_is_not_kept_waiting() -> None:
    assert sum(LONG.pauses(lambda: 0.0)) >= 30
    assert sum(BRIEF.pauses(lambda: 1.0)) <= 2
