"""manifest.json, both ways, and what must add up in it (store.md 5)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netdump.errors import StoreError
from netdump.pages import ExcludeClass
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.layout import segment_name
from netdump.store.manifest import Manifest
from netdump.store.sealed import seal
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import CLOCK, deliver

SAMPLE = SampleDump()


def manifest() -> Manifest:
    made = deliver(Store(Path("dumps"), MemoryFiles(), clock=lambda: CLOCK), SAMPLE)
    assert made is not None
    return made


MANIFEST = manifest()


def members() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(MANIFEST.pack())
    del found["sha256"]
    return found


def test_it_comes_back() -> None:
    assert len(MANIFEST.totals.excluded_by) > 1
    for made in (MANIFEST, replace(MANIFEST, headline=None), replace(MANIFEST, remark="free pages are sent too")):
        assert Manifest.parse(made.pack(), made.id) == made


def test_it_has_the_members_of_the_law() -> None:
    found = members()
    names = "format id host image_bytes chunks root headline completed totals excluded segments"
    assert set(found) == set(names.split())
    assert set(found["totals"]) == {"data", "zero", "alias", "excluded", "lost", "stored"}
    assert set(found["segments"][0]) == {"name", "start", "end", "chunks", "bytes", "sha256"}
    assert set(found["excluded"]) <= {reason.name.lower() for reason in ExcludeClass}
    assert found["format"] == "netdump-manifest/1"
    assert replace(MANIFEST, headline=None).pack().count(b'"headline":null') == 1


def test_members_of_a_later_version_are_ignored() -> None:
    """[S-12]."""
    found = members()
    found["mood"] = found["segments"][0]["mood"] = found["totals"]["mood"] = "fine"
    assert Manifest.parse(seal(found), MANIFEST.id) == MANIFEST


def change(path: str, value: object) -> dict[str, Any]:
    """The members with one of them replaced; path: names and numbers with dots."""
    found = members()
    place: Any = found
    *parents, last = [int(part) if part.lstrip("-").isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "0" * 32),
        ("host", None),
        ("image_bytes", MANIFEST.image_bytes + 1),
        ("image_bytes", 0),
        ("chunks", MANIFEST.chunks + 1),
        ("root", "ab"),
        ("headline", ""),
        ("headline", False),
        ("completed", -1),
        ("totals", []),
        ("totals.data", MANIFEST.totals.data + 1),
        ("totals.stored", None),
        ("excluded", None),
        ("excluded.cache", 10**9),
        ("excluded.cache", 0),
        ("excluded.mood", 1),
        ("segments", []),
        ("segments", {}),
        ("segments.0", 1),
        ("segments.0.name", "../../etc/passwd"),
        ("segments.0.start", 1),
        ("segments.1.start", 0),
        ("segments.1.end", 1 << 60),
        ("segments.0.end", 0),
        ("segments.0.chunks", 0),
        ("segments.0.chunks", 1),
        ("segments.0.bytes", 0),
        ("segments.0.sha256", "x" * 64),
        ("segments.-1", {**members()["segments"][0]}),
    ],
)
def test_what_does_not_add_up_is_damage(path: str, value: object) -> None:
    with pytest.raises(DamageFoundError) as error:
        Manifest.parse(seal(change(path, value)), MANIFEST.id)
    assert error.value.finding.damage is Damage.CONTENT
    assert error.value.finding.file == "manifest.json"


def test_segments_must_reach_the_end() -> None:
    found = members()
    last = found["segments"].pop()
    found["chunks"] -= last["chunks"]
    with pytest.raises(DamageFoundError, match="do not end where the image does"):
        Manifest.parse(seal(found), MANIFEST.id)


@pytest.mark.parametrize("gap", ["missing", "twice", "swapped", "empty"])
def test_each_segment_begins_where_the_one_before_ends(gap: str) -> None:
    """All else is in order: names, the sum of chunks, the end."""
    found = members()
    segments = found["segments"]
    if gap == "missing":
        found["chunks"] -= segments.pop(1)["chunks"]
    elif gap == "twice":
        found["chunks"] += segments[1]["chunks"]
        segments.insert(1, segments[1])
    elif gap == "swapped":
        segments[0:2] = segments[1::-1]
    else:
        end = segments[0]["end"]
        segments.insert(1, {**segments[1], "end": end, "name": segment_name(end, end)})
        found["chunks"] += segments[1]["chunks"]
    assert len(segments) > 2
    with pytest.raises(DamageFoundError, match="does not begin where the one before ends"):
        Manifest.parse(seal(found), MANIFEST.id)


def test_what_no_reader_would_take_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(MANIFEST.pack())
    monkeypatch.setattr("netdump.store.manifest.MANIFEST_BYTES_MAX", size)
    assert len(MANIFEST.pack()) == size
    monkeypatch.setattr("netdump.store.manifest.MANIFEST_BYTES_MAX", size - 1)
    with pytest.raises(StoreError, match="segments"):
        MANIFEST.pack()
    files = MemoryFiles()
    store = Store(Path("dumps"), files, clock=lambda: CLOCK)
    with pytest.raises(StoreError, match=SAMPLE.origin.id):
        deliver(store, SAMPLE)
    dump = store.dump(SAMPLE.origin.id)
    assert not dump.complete
    assert dump.durable.offset == len(SAMPLE.image), "all of it stays"
