from __future__ import annotations

import pytest

from bench.budgets import Goal, load_goals


def test_every_goal_has_one_bound_and_a_figure_of_its_own() -> None:
    goals = load_goals()
    assert all((goal.most is None) != (goal.least is None) for goal in goals)
    assert len({goal.figure for goal in goals}) == len(goals)


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal("f", "t", most=2), 2.0, "met"),
        (Goal("f", "t", most=2), 2.1, "NOT MET"),
        (Goal("f", "t", least=2), 2.0, "met"),
        (Goal("f", "t", least=2), 1.9, "NOT MET"),
        (Goal("f", "t", most=2, by="a test"), 9.0, "see a test"),
    ],
)
def test_verdicts(goal: Goal, value: float, verdict: str) -> None:
    assert goal.verdict({"f": value}) == verdict


def test_what_was_not_measured_is_not_met() -> None:
    assert Goal("f", "t", most=2).verdict({}) == "not measured"
