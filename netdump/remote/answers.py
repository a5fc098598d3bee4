"""What a collector's API answers, checked: JSON objects to the shapes of netdump.index.reading.

Owns the ranges of every number that comes back. A collector is trusted with its dumps, not with our memory or our
file names.
"""

from __future__ import annotations

import json
import re
from typing import Final

from netdump.errors import RemoteError
from netdump.index.reading import FetchPlan, PlannedSegment
from netdump.index.record import DumpRecord, parse_record
from netdump.store.findings import Damage, Finding, Report
from netdump.store.layout import is_dump_id, segment_name
from netdump.wire import IMAGE_BYTES_MAX, SEGMENT_CHUNKS_MAX

SEGMENT_BYTES_MAX: Final = 1 << 40
FINDINGS_MAX: Final = 10_000

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEXT_CHARS_MAX: Final = 2000


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object of an answer. Raises RemoteError."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("no JSON") from None
    if not isinstance(answer, dict):
        raise _wrong("no JSON object")
    return answer


def parse_list(body: bytes) -> list[DumpRecord]:
    """The dumps of a list. Raises RemoteError."""
    dumps = parse_object(body).get("dumps")
    if not isinstance(dumps, list):
        raise _wrong("no list of dumps")
    return [parse_record(dump) for dump in dumps]


def parse_plan(body: bytes) -> FetchPlan:
    """A fetch plan whose segments tile the image from 0 to its offset, in order. Raises RemoteError."""
    answer = parse_object(body)
    dump_id, complete, root = answer.get("id"), answer.get("complete"), answer.get("root")
    image_bytes = _number(answer, "image_bytes", 1, IMAGE_BYTES_MAX)
    items = answer.get("segments")
    if not isinstance(dump_id, str) or not is_dump_id(dump_id) or not isinstance(complete, bool):
        raise _wrong("a plan without id or completeness")
    if not isinstance(items, list):
        raise _wrong("a plan without segments")
    segments: list[PlannedSegment] = []
    end = 0
    for item in items:
        segment = _parse_segment(item, end, image_bytes)
        end = segment.end
        segments.append(segment)
    if end != _number(answer, "offset", 0, image_bytes):
        raise _wrong("a plan whose segments do not reach its offset")
    if complete and (end != image_bytes or not isinstance(root, str) or not _DIGEST.fullmatch(root)):
        raise _wrong("a plan of a complete dump that is not complete")
    return FetchPlan(
        id=dump_id,
        complete=complete,
        image_bytes=image_bytes,
        offset=end,
        chunks=sum(segment.chunks for segment in segments),
        root=str(root) if complete else None,
        segments=tuple(segments),
    )


def parse_report(body: bytes) -> Report:
    """The report of a verification. Raises RemoteError."""
    answer = parse_object(body)
    dump_id, complete, findings = answer.get("id"), answer.get("complete"), answer.get("findings")
    if not isinstance(dump_id, str) or not is_dump_id(dump_id) or not isinstance(complete, bool):
        raise _wrong("a report without id or completeness")
    if not isinstance(findings, list) or len(findings) > FINDINGS_MAX:
        raise _wrong("a report without findings")
    view = answer.get("vmcore")
    return Report(
        id=dump_id,
        complete=complete,
        segments=_number(answer, "segments"),
        chunks=_number(answer, "chunks"),
        image_bytes=_number(answer, "image_bytes", 0, IMAGE_BYTES_MAX),
        findings=tuple(map(_parse_finding, findings)),
        more=_number(answer, "more"),
        view=None if view is None else _parse_finding(view),
        remade=isinstance(view, dict) and view.get("remade") is True,
    )


def _parse_segment(item: object, start: int, image_bytes: int) -> PlannedSegment:
    """start: image offset at which it must begin."""
    if not isinstance(item, dict):
        raise _wrong("a plan with a segment that is none")
    end = _number(item, "end", start + 1, image_bytes)
    sha256 = item.get("sha256")
    # The name becomes a file's: it must be the one that follows from the range.
    if _number(item, "start") != start or item.get("name") != segment_name(start, end):
        raise _wrong("a plan whose segments do not follow one another")
    if not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
        raise _wrong("a segment without digest")
    return PlannedSegment(
        name=segment_name(start, end),
        start=start,
        end=end,
        chunks=_number(item, "chunks", 1, SEGMENT_CHUNKS_MAX),
        bytes=_number(item, "bytes", 1, SEGMENT_BYTES_MAX),
        sha256=sha256,
    )


def _parse_finding(item: object) -> Finding:
    if not isinstance(item, dict):
        raise _wrong("a finding that is none")
    position = item.get("position")
    damage = item.get("damage")
    return Finding(
        # A newer collector may know other classes; what it found is damage all the same.
        damage=Damage(damage) if isinstance(damage, str) and damage in set(Damage) else Damage.CONTENT,
        file=str(item.get("file"))[:_TEXT_CHARS_MAX],
        position=position if isinstance(position, int) else None,
        text=str(item.get("text"))[:_TEXT_CHARS_MAX],
    )


def _number(answer: dict[str, object], name: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
    value = answer.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(f"{name} is not a number of {low} .. {high}")
    return value


def _wrong(what: str) -> RemoteError:
    return RemoteError(f"the collector does not answer as one does: {what}; it may be of another version")
