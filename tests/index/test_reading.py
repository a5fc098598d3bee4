"""The shapes of a catalog's answers as public objects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netdump.errors import DumpNotFoundError
from netdump.index.reading import FetchPlan, PlannedSegment, Query, every, list_json, pack_plan, plan_json
from netdump.index.record import DumpRecord, State


def test_a_list_is_an_object_with_dumps() -> None:
    record = DumpRecord("a" * 32, "h", State.ARRIVING, 1, 4096, 0, 0, 0)
    shown = list_json([record])
    assert list(shown) == ["dumps"]
    assert [dump["id"] for dump in shown["dumps"]] == ["a" * 32]


def test_a_plan_has_the_agreed_members() -> None:
    segment = PlannedSegment("x.seg", 0, 4096, 1, 300, "ab" * 32)
    shown = plan_json(FetchPlan("a" * 32, True, 4096, 4096, 1, "cd" * 32, (segment,)))
    assert list(shown) == ["id", "complete", "image_bytes", "offset", "chunks", "root", "segments"]
    assert shown["segments"] == [
        {"name": "x.seg", "start": 0, "end": 4096, "chunks": 1, "bytes": 300, "sha256": "ab" * 32}
    ]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2001])
def test_a_plan_is_packed_a_part_at_a_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = tuple(
        PlannedSegment(f"{n:016x}-{n + 1:016x}.seg", n, n + 1, 1, 300 + n, "ab" * 32) for n in range(count)
    )
    plan = FetchPlan("a" * 32, bool(count), count or 1, count, count, "cd" * 32 if count else None, segments)
    packed, dumps = list[object](), json.dumps

    def spy(value: object, **options: Any) -> str:
        packed.append(value)
        return dumps(value, **options)

    monkeypatch.setattr(json, "dumps", spy)
    assert json.loads(pack_plan(plan)) == plan_json(plan)
    assert all(len(value) <= 1000 for value in packed if isinstance(value, list))
    assert all(not value["segments"] for value in packed if isinstance(value, dict))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_every_dump_by_as_many_questions_as_it_takes(limit: int) -> None:
    records = [DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 1, 1) for number in range(6)]
    asked = []

    def ask(query: Query) -> list[DumpRecord]:
        asked.append(query)
        after = 0 if query.before is None else int(query.before, 16) + 1
        return records[after : after + query.limit]

    assert [*every(ask, Query(host="a", limit=limit))] == records
    assert len(asked) == len(records) // limit + 1
    assert {query.host for query in asked} == {"a"}


def test_every_dump_beside_a_job_that_deletes() -> None:
    records = nine_records()
    left = {record.id: record for record in records}
    dumps = every(lambda query: page_of(left, query), Query(limit=3))
    listed = [next(dumps)]
    del left[records[2].id], left[records[5].id]  # of the first page the last; of the second one that was not asked for
    listed += dumps
    assert listed == [*records[:5], *records[6:]]


def test_a_page_of_which_nothing_is_left() -> None:
    left = {record.id: record for record in nine_records()}
    dumps = every(lambda query: page_of(left, query), Query(limit=3))
    for _ in range(3):
        next(dumps)
    left.clear()
    with pytest.raises(DumpNotFoundError):
        next(dumps)


def nine_records() -> list[DumpRecord]:
    return [DumpRecord(f"{number:032x}", "a", State.COMPLETE, 1, 4096, 0, 1, 1) for number in range(9)]


def page_of(records: dict[str, DumpRecord], query: Query) -> list[DumpRecord]:
    """What a collector that has these answers."""
    if query.before not in {None, *records}:
        raise DumpNotFoundError("there is no such dump to go on from")
    return [record for record in records.values() if record.id > (query.before or "")][: query.limit]
