"""origin.json, both ways, and what it refuses (store.md 3)."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from netdump.errors import MismatchError, OwnerError
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.origin import ORIGIN_BYTES_MAX, Origin, check_offer
from netdump.store.sealed import seal
from netdump.testing.sample_dump import SampleDump

ORIGIN = SampleDump().origin


def members() -> dict[str, object]:
    found: dict[str, object] = json.loads(ORIGIN.pack())
    del found["sha256"]
    return found


def test_it_comes_back() -> None:
    for origin in (ORIGIN, replace(ORIGIN, drill=True, level=31, agent="é\n", image_bytes=1 << 52, created=0)):
        assert Origin.parse(origin.pack(), origin.id) == origin
    assert ORIGIN.dump_id.hex() == ORIGIN.id
    assert len(replace(ORIGIN, host="é" * 255, agent="é" * 1024).pack()) < ORIGIN_BYTES_MAX


def test_it_has_the_members_of_the_law() -> None:
    assert set(members()) == {field.name for field in fields(Origin)} | {"format"}
    assert members()["format"] == "netdump-origin/1"


def test_members_of_a_later_version_are_ignored() -> None:
    """[S-12]."""
    assert Origin.parse(seal({**members(), "mood": "fine"}), ORIGIN.id) == ORIGIN


@pytest.mark.parametrize(
    "change",
    [
        {"id": "0" * 32},
        {"id": None},
        {"host": 1},
        {"host": "x" * 256},
        {"host_key": "ab"},
        {"host_key": "AB" * 32},
        {"image_bytes": 0},
        {"image_bytes": (1 << 52) + 1},
        {"image_bytes": "1"},
        {"page_bytes": 2048},
        {"page_bytes": 131072},
        {"level": 32},
        {"level": -1},
        {"drill": 1},
        {"agent": "x" * 1025},
        {"created": -1},
        {"created": True},
    ],
)
def test_what_cannot_be_is_damage(change: dict[str, object]) -> None:
    with pytest.raises(DamageFoundError) as error:
        Origin.parse(seal({**members(), **change}), ORIGIN.id)
    assert error.value.finding.damage is Damage.CONTENT
    assert next(iter(change)) in error.value.finding.text or "another dump" in error.value.finding.text


@pytest.mark.parametrize("name", sorted(set(members()) - {"format"}))
def test_nothing_may_be_missing(name: str) -> None:
    with pytest.raises(DamageFoundError):
        Origin.parse(seal({key: value for key, value in members().items() if key != name}), ORIGIN.id)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(DamageFoundError) as error:
        Origin.parse(seal({**members(), "format": "netdump-origin/2"}), ORIGIN.id)
    assert error.value.finding.damage is Damage.FORMAT


@pytest.mark.parametrize("change", [{"image_bytes": 4096}, {"page_bytes": 16384}, {"level": 31}])
def test_another_host_learns_nothing_of_a_dump(change: dict[str, Any]) -> None:
    """[W-31], [W-32]."""
    check_offer(ORIGIN, replace(ORIGIN, agent="another", drill=True, created=0))
    with pytest.raises(MismatchError):
        check_offer(ORIGIN, replace(ORIGIN, **change))
    with pytest.raises(OwnerError):
        check_offer(ORIGIN, replace(ORIGIN, host="another", **change))
