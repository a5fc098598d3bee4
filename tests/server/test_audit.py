"""The audit: one line an event, whatever peers write."""

from __future__ import annotations

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.server.audit import TEXT_MAX, escaped, open_audit


def test_one_line_an_event() -> None:
    stream = io.StringIO()
    audit = open_audit(stream)
    audit("dump-complete", host="web1", bytes=7, drill=False, panic=None)
    audit("second", text='a\nb"\x1b[2J\u202e')
    first, second = stream.getvalue().splitlines()
    event = json.loads(first)
    assert event.pop("time").endswith("Z")
    assert event == {"event": "dump-complete", "host": "web1", "bytes": 7, "drill": False, "panic": None}
    assert json.loads(second)["text"] == 'a\\nb"\\x1b[2J\\u202e'


@given(st.text())
@settings(derandomize=True, deadline=None)
def test_escaped_is_plain_and_short(text: str) -> None:
    clean = escaped(text)
    assert len(clean) <= TEXT_MAX + 1
    assert clean.removesuffix("…").isascii()
    assert "\n" not in clean
    assert clean.removesuffix("…").isprintable()
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= TEXT_MAX:
        assert clean == text
