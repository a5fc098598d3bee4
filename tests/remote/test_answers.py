"""What comes from a collector is checked before anything is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import RemoteError
from netdump.index.reading import FetchPlan, PlannedSegment, plan_json
from netdump.remote.answers import parse_list, parse_plan, parse_report
from netdump.store.findings import Damage, Finding, Report
from netdump.store.layout import segment_name

SEGMENTS = tuple(
    PlannedSegment(segment_name(start, start + 4096), start, start + 4096, 1, 300, f"{start:064x}")
    for start in range(0, 4 * 4096, 4096)
)
PLAN = FetchPlan("a" * 32, True, 4 * 4096, 4 * 4096, 4, "b" * 64, SEGMENTS)
HALF = FetchPlan("a" * 32, False, 9 * 4096, 4 * 4096, 4, None, SEGMENTS)
REPORT = Report("a" * 32, True, 1, 2, 3, (Finding(Damage.BAD_DIGEST, "x.seg", 5, "why"),), 7)


def test_plans_and_reports_come_back() -> None:
    for plan in (PLAN, HALF):
        assert parse_plan(json.dumps(plan_json(plan)).encode()) == plan
    assert parse_report(json.dumps(REPORT.as_json()).encode()) == REPORT


def changed(change: dict[str, Any], segment: dict[str, Any] | None = None) -> bytes:
    shown = plan_json(PLAN)
    shown.update(change)
    shown["segments"][1].update(segment or {})
    return json.dumps(shown).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc"},
        {"id": 5},
        {"complete": "yes"},
        {"image_bytes": 0},
        {"image_bytes": 1 << 60},
        {"image_bytes": 5 * 4096},
        {"offset": 4096},
        {"offset": -1},
        {"root": None},
        {"root": "B" * 64},
        {"segments": None},
        {"segments": []},
        {"segments": [5]},
    ],
)
def test_plans_that_contradict_themselves(change: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        parse_plan(json.dumps({**plan_json(PLAN), **change}).encode())


@pytest.mark.parametrize(
    "segment",
    [
        {"name": "../../../etc/passwd"},
        {"name": segment_name(4096, 8191)},
        {"start": 0},
        {"end": 4096},
        {"end": 1 << 50},
        {"chunks": 0},
        {"chunks": 1 << 30},
        {"bytes": 0},
        {"bytes": 1 << 50},
        {"bytes": 1.5},
        {"sha256": "x"},
        {"sha256": None},
    ],
)
def test_segments_that_do_not_fit(segment: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        parse_plan(changed({}, segment))


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"complete": 1}, {"findings": None}, {"findings": [5]}, {"findings": [{}] * 10_001}, {"chunks": -1}],
)
def test_reports_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        parse_report(json.dumps({**REPORT.as_json(), **change}).encode())


def test_damage_of_a_kind_that_is_not_known_here_stays_damage() -> None:
    shown: dict[str, Any] = REPORT.as_json()
    shown["findings"] = [{"damage": "of-the-future", "file": "x", "text": "y"}]
    (finding,) = parse_report(json.dumps(shown).encode()).findings
    assert finding == Finding(Damage.CONTENT, "x", None, "y")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(plan_json(PLAN))), inner, max_size=7)
    ),
    max_leaves=20,
)


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.binary(max_size=50), JSON.map(lambda value: json.dumps(value).encode())))
def test_anything_else_is_refused(body: bytes) -> None:
    for parse in (parse_list, parse_plan, parse_report):
        try:
            result = parse(body)
        except RemoteError:
            continue
        assert result == []
