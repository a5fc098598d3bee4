"""The numbers themselves are compared with registry.toml in tests/protocol/test_registry.py."""

from __future__ import annotations

import pytest

from netdump.wire import ERROR_RETRYABLE, DeclineCode, ErrorCode, MessageType
from netdump.wire._registry import FIELDS, MESSAGE_PAYLOAD_MAX


def test_slugs() -> None:
    assert ErrorCode.UNEXPECTED_MESSAGE.slug == "unexpected-message"
    assert DeclineCode.NOT_OWNER.slug == "not-owner"


def test_every_code_and_message_is_told_about() -> None:
    assert set(ERROR_RETRYABLE) == set(ErrorCode)
    assert set(FIELDS) == set(MESSAGE_PAYLOAD_MAX) == set(MessageType)


@pytest.mark.parametrize("number", MessageType)
def test_ranges_fit_their_kind(number: MessageType) -> None:
    for field in FIELDS[number]:
        if isinstance(field.allowed, range) and field.kind.startswith("u"):
            assert 0 <= field.allowed.start < field.allowed.stop <= 1 << int(field.kind[1:])
