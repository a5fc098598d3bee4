"""netdump.pages holds the numbers of the registry."""

from __future__ import annotations

import tomllib
from pathlib import Path

from netdump.pages import ExcludeClass, PageState, Run

REGISTRY = tomllib.loads((Path(__file__).parents[1] / "protocol" / "registry.toml").read_text())


def test_states() -> None:
    assert {state.name.lower(): state.value for state in PageState} == REGISTRY["page_state"]


def test_classes() -> None:
    assert {cause.name.lower(): cause.value for cause in ExcludeClass} == REGISTRY["exclude_class"]


def test_a_run_is_plain_unless_said_otherwise() -> None:
    assert Run(PageState.ZERO, 4096) == (1, 4096, ExcludeClass.NONE, 0)
