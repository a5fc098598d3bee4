from __future__ import annotations

import pytest

from netdump.image.checkup.finding import Finding, State, count, ok, problem, unknown, warning


def test_states_are_counted() -> None:
    findings = [ok("a", "x"), ok("b", "x"), problem("c", "x", "y"), unknown("d", "x", "y")]
    assert count(findings) == {State.OK: 2, State.WARNING: 0, State.PROBLEM: 1, State.UNKNOWN: 1}
    assert warning("a", "x", "y") == Finding("a", State.WARNING, "x", "y")


@pytest.mark.parametrize("state", [State.WARNING, State.PROBLEM, State.UNKNOWN])
def test_whatever_is_not_ok_has_a_remedy(state: State) -> None:
    with pytest.raises(AssertionError):
        Finding("a", state, "x")
    with pytest.raises(AssertionError):
        Finding("a", State.OK, "x", "y")
