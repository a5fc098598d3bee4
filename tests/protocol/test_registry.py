"""registry.toml and the code hold the same numbers, each all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from netdump import wire
from netdump.pages import ExcludeClass, PageState
from netdump.wire import _registry
from netdump.wire._messages import CLASS_OF
from tests.protocol.crafted import REGISTRY

if TYPE_CHECKING:
    from enum import IntEnum

# Prefix that the names of a section have in the code
PREFIXES = {
    "protocol": "",
    "frame": "",
    "limits": "",
    "chatter": "CHATTER_",
    "segment": "SEGMENT_",
    "domain": "DOMAIN_",
}
RENAMED = {"HEADER_BYTES": "FRAME_HEADER_BYTES"}


def expected_constants() -> dict[str, object]:
    """Every plain number and text of the registry by its name in the code."""
    constants: dict[str, object] = {}
    for section, prefix in PREFIXES.items():
        for name, value in REGISTRY[section].items():
            constant = prefix + name.upper()
            is_bytes = section in {"segment", "domain"} and isinstance(value, str)
            constants[RENAMED.get(constant, constant)] = value.encode() if is_bytes else value
    return constants


def test_constants() -> None:
    present = {
        name: value
        for name, value in vars(_registry).items()
        if name.isupper() and isinstance(value, int | str | bytes)
    }
    present.pop("TYPE_CHECKING")
    assert present == expected_constants()


def test_sections() -> None:
    enums = {"page_state", "exclude_class", "codec", "error", "decline"}
    assert set(REGISTRY) == set(PREFIXES) | enums | {"message", "field", "headline"}


def by_slug(codes: type[IntEnum]) -> dict[str, int]:
    """Names as the registry writes them."""
    return {code.name.lower().replace("_", "-"): int(code) for code in codes}


def test_enums() -> None:
    assert {state.name.lower(): int(state) for state in PageState} == REGISTRY["page_state"]
    assert {reason.name.lower(): int(reason) for reason in ExcludeClass} == REGISTRY["exclude_class"]
    assert by_slug(wire.CodecId) == REGISTRY["codec"]
    assert by_slug(wire.DeclineCode) == {slug: row["code"] for slug, row in REGISTRY["decline"].items()}
    assert by_slug(wire.ErrorCode) == {slug: row["code"] for slug, row in REGISTRY["error"].items()}
    assert {code.slug: retryable for code, retryable in wire.ERROR_RETRYABLE.items()} == {
        slug: row["retryable"] for slug, row in REGISTRY["error"].items()
    }
    assert [code.slug for code in wire.DeclineCode] == list(by_slug(wire.DeclineCode))


def test_messages() -> None:
    senders: dict[str, set[str]] = {}
    for row in wire.TRANSITIONS:
        senders.setdefault(row.message.name, set()).add(row.sender.value)
    present = {
        number.name: {
            "type": int(number),
            "sender": "both" if len(senders[number.name]) == 2 else senders[number.name].pop(),
            "payload_max": wire.MESSAGE_PAYLOAD_MAX[number],
        }
        for number in wire.MessageType
    }
    assert present == REGISTRY["message"]


def row_of(field: _registry.Field) -> dict[str, Any]:
    return {"id": field.id, "kind": field.kind, "required": field.required, "critical": field.critical}


def test_fields() -> None:
    present = {
        number.name: {field.name: row_of(field) for field in fields} for number, fields in _registry.FIELDS.items()
    }
    assert present == REGISTRY["field"]


def test_headline_fields() -> None:
    rows = {field.name: row_of(field) for field in _registry.HEADLINE_FIELDS}
    assert rows == {name: {**row, "required": False} for name, row in REGISTRY["headline"].items()}
    assert wire.HeadlineDocument._fields == tuple(rows)


@pytest.mark.parametrize("number", wire.MessageType)
def test_members_stand_as_the_fields(number: wire.MessageType) -> None:
    """pack and unpack go by place: members are the fields in their order, optional ones with a default."""
    shape = CLASS_OF[number]
    fields = _registry.FIELDS[number]
    members = ["runs" if name == "table" else name for name in shape._fields if name != "frame"]
    assert members == [field.name for field in fields]
    assert [field.id for field in fields] == sorted({field.id for field in fields})
    defaults = set(shape._field_defaults) - {"frame"}
    assert defaults == {field.name for field in fields if not field.required}
