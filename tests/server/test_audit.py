"""The audit: one line an event, whatever peers write."""

from __future__ import annotations

import io
import json
import logging

from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.server.audit import TEXT_MAX, LogBridge, escaped, open_audit


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


def test_what_libraries_log_becomes_events() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("uvicorn.error")
    bridge = LogBridge(open_audit(stream))
    logger.addHandler(bridge)
    logger.info("not told")
    logger.warning("two\nlines %s", "x")
    try:
        json.loads("{}")["missing"]
    except KeyError:
        logger.exception("failed")
    logger.removeHandler(bridge)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["source"], first["level"]) == ("library", "uvicorn.error", "WARNING")
    assert first["message"] == "two\\nlines x"
    assert "trace" not in first
    assert second["error"] == "KeyError: 'missing'"
    assert second["trace"].startswith("test_audit.py:")


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
