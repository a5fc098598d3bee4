from __future__ import annotations

import pytest

from netdump.image.init.restarts import (
    DEATHS_MAX,
    DOUBT_SECONDS,
    LATE,
    LATE_SECONDS,
    PAUSE_MAX,
    PROGRESS_BYTES,
    Restarts,
    Verdict,
)

KILLED, FAULT, CORE, UNREACHABLE, IMPOSTOR, LOST_CONNECTION = -9, 1, 10, 30, 32, 31
NO_USE = Verdict(None, "trying again is of no use")


def judge(restarts: Restarts, status: int | None, *, sent: int = 0, now: float = 0.0, left: float = 3000.0) -> Verdict:
    return restarts.judge(status, sent, now, left)


@pytest.mark.parametrize("status", [CORE, 29, 34])
def test_no_other_start_is_of_use(status: int) -> None:
    assert judge(Restarts(), status, sent=PROGRESS_BYTES) == NO_USE


def test_pauses_grow_while_collector_or_network_fail() -> None:
    restarts = Restarts()
    pauses = [judge(restarts, UNREACHABLE).pause for _ in range(9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, PAUSE_MAX]
    assert judge(restarts, LOST_CONNECTION, sent=PROGRESS_BYTES) == Verdict(1, "trying again in 1 s")
    assert judge(restarts, LOST_CONNECTION, sent=PROGRESS_BYTES - 1) == Verdict(2, "trying again in 2 s")
    assert judge(restarts, LOST_CONNECTION, left=3.0) == Verdict(3, "trying again in 3 s")


@pytest.mark.parametrize("status", [KILLED, None, FAULT, 37, 39])
def test_deaths_are_counted_as_long_as_nothing_is_sent(status: int | None) -> None:
    restarts = Restarts()
    for _ in range(2):
        for _ in range(DEATHS_MAX - 1):
            assert judge(restarts, status) == Verdict(1, "")
            assert judge(restarts, UNREACHABLE).pause == 2, "failures of others neither count nor help"
        assert judge(restarts, UNREACHABLE, sent=PROGRESS_BYTES).pause == 1
    for _ in range(DEATHS_MAX - 1):
        judge(restarts, status)
    assert judge(restarts, status) == Verdict(None, f"the client ended {DEATHS_MAX} times without getting on")


def test_a_client_that_ends_by_its_deadline_leaves_some_of_ours() -> None:
    assert judge(Restarts(), LATE, left=LATE_SECONDS).pause == 1
    assert judge(Restarts(), LATE, left=LATE_SECONDS + 1) == NO_USE


def test_doubts_last_for_some_minutes() -> None:
    restarts = Restarts()
    assert judge(restarts, IMPOSTOR, now=100.0) == Verdict(1, "that may pass: trying again for 180 s")
    assert judge(restarts, 33, now=100.0 + DOUBT_SECONDS - 1) == Verdict(1, "that may pass: trying again for 1 s")
    assert judge(restarts, IMPOSTOR, now=100.0 + DOUBT_SECONDS) == NO_USE


@pytest.mark.parametrize(("status", "sent"), [(UNREACHABLE, 0), (IMPOSTOR, PROGRESS_BYTES)])
def test_doubts_begin_anew(status: int, sent: int) -> None:
    restarts = Restarts()
    judge(restarts, IMPOSTOR, now=0.0)
    judge(restarts, status, sent=sent, now=100.0)
    assert judge(restarts, IMPOSTOR, now=DOUBT_SECONDS + 1).pause is not None
