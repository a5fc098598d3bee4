from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.image.init.plan import FIRST_LINE, Link, Plan, PlanError, Route, Save, Way, pack_plan, parse_plan

WORD = st.text("abc019.:/-", min_size=1, max_size=12)
LINKS = st.builds(
    Link, WORD, st.sampled_from(("ether", "vlan", "bond")), WORD, st.lists(WORD, max_size=2).map(tuple),
    st.integers(0, 4094), st.lists(st.tuples(WORD, WORD).map("=".join), max_size=2).map(tuple), st.integers(0, 9000),
)  # fmt: skip
WAYS = st.builds(
    Way, WORD, st.sampled_from(("static", "dhcp", "auto")), st.lists(WORD, max_size=2).map(tuple),
    st.lists(st.builds(Route, WORD, WORD), max_size=2).map(tuple), st.lists(WORD, max_size=2).map(tuple),
)  # fmt: skip
PLANS = st.builds(
    Plan, st.integers(60, 9999).map(float), st.integers(60, 9999).map(float), st.sampled_from(("reboot", "halt")),
    st.sampled_from(("poweroff", "shell")), st.integers(0, 99), st.lists(WORD, max_size=2).map(tuple),
    st.lists(LINKS, max_size=2).map(tuple), st.lists(WAYS, max_size=2).map(tuple),
    st.lists(st.tuples(WORD, st.integers(1, 65535)), max_size=2).map(tuple),
    st.none() | st.builds(Save, WORD, WORD, WORD),
)  # fmt: skip


@settings(derandomize=True, deadline=None)
@given(PLANS)
def test_round_trip(plan: Plan) -> None:
    assert parse_plan(pack_plan(plan)) == plan


@pytest.mark.parametrize(
    "line",
    ["deadline", "deadline x", "final explode", "link eth0 token", "way eth0 static address", "collector a", "?"],
)
def test_damage_is_named(line: str) -> None:
    with pytest.raises(PlanError, match=r"cannot read"):
        parse_plan(f"{FIRST_LINE}\n{line}\n")


@pytest.mark.parametrize("text", ["", "netdump-plan 2\n", "x"])
def test_another_version(text: str) -> None:
    with pytest.raises(PlanError, match="does not begin"):
        parse_plan(text)
