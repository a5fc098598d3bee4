from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.image.init.plan import (
    DEADLINE_MAX,
    FIRST_LINE,
    Link,
    Module,
    Plan,
    PlanError,
    Route,
    Save,
    Way,
    pack_plan,
    parse_plan,
)

WORD = st.text("abc019.:/-", min_size=1, max_size=12)
MODULES = st.builds(Module, WORD, st.lists(WORD, max_size=2).map(tuple))
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
    st.sampled_from(("poweroff", "shell")), st.integers(0, 99), st.lists(MODULES, max_size=2).map(tuple),
    st.lists(LINKS, max_size=2).map(tuple), st.lists(WAYS, max_size=2).map(tuple),
    st.lists(st.tuples(WORD, st.integers(1, 65535)), max_size=2).map(tuple),
    st.none() | st.builds(Save, WORD, WORD, WORD),
)  # fmt: skip


def consistent(plan: Plan) -> Plan:
    """Only what refers to a link that there is."""
    names = {link.name for link in plan.links}
    links = tuple(link._replace(lower=tuple(name for name in link.lower if name in names)) for link in plan.links)
    return plan._replace(links=links, ways=tuple(way for way in plan.ways if way.link in names))


@settings(derandomize=True, deadline=None)
@given(PLANS.map(consistent))
def test_round_trip(plan: Plan) -> None:
    assert parse_plan(pack_plan(plan)) == plan


@pytest.mark.parametrize(
    "line",
    [
        "deadline",
        "deadline x",
        "deadline nan",
        "save-deadline inf",
        "deadline 0",
        "watchdog -1",
        "",
        "final explode",
        "link eth0 token",
        "way eth0 static address",
        "collector a",
        "?",
    ],
)
def test_damage_is_named(line: str) -> None:
    with pytest.raises(PlanError, match=r"cannot read"):
        parse_plan(f"{FIRST_LINE}\n{line}\n")


@pytest.mark.parametrize("line", ["way eth0 dhcp", "link bond0 bond lower=eth0"])
def test_a_link_that_is_not_there(line: str) -> None:
    with pytest.raises(PlanError, match="there is no link eth0"):
        parse_plan(f"{FIRST_LINE}\n{line}\n")


@settings(derandomize=True, deadline=None)
@given(PLANS.map(consistent), st.data())
def test_damage_never_escapes_as_anything_else(plan: Plan, data: st.DataObject) -> None:
    """Process 1 knows what to do about PlanError."""
    text = pack_plan(plan)
    at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 20))
    damaged = text[:at] + data.draw(st.text("abc0,= \n\x00é", max_size=8)) + text[at + length :]
    try:
        read = parse_plan(damaged)
    except PlanError:
        return
    assert 1 <= read.deadline <= DEADLINE_MAX


@pytest.mark.parametrize("text", ["", "netdump-plan 2\n", "x"])
def test_another_version(text: str) -> None:
    with pytest.raises(PlanError, match="does not begin"):
        parse_plan(text)
