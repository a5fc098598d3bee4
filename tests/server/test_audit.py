"""The audit: one line an event, whatever peers write."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import ThreadsError
from netdump.server import audit as module
from netdump.server.audit import STRANGERS_PER_MINUTE, TEXT_MAX, LineWriter, LogBridge, Rationed, escaped, open_audit


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


def test_what_strangers_cause_is_rationed() -> None:
    events: list[dict[str, object]] = []
    now = 0.0
    rationed = Rationed(lambda event, **fields: events.append({"event": event, **fields}), 3, lambda: now)
    for number in range(10):
        rationed("refused", number=number)
    assert events == [{"event": "refused", "number": number} for number in range(3)]
    now = 20.0
    rationed("refused", number=10)
    assert events[-1] == {"event": "refused", "number": 10, "left_out": 7}


def test_a_library_cannot_fill_the_log_either() -> None:
    stream = io.StringIO()
    bridge = LogBridge(open_audit(stream))
    for _ in range(3 * STRANGERS_PER_MINUTE):
        bridge.emit(logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Invalid HTTP request", (), None))
    assert len(stream.getvalue().splitlines()) == STRANGERS_PER_MINUTE


def test_a_library_whose_line_cannot_be_noted_goes_on() -> None:
    """The loop of asyncio logs that it cannot accept; what its handler raised would end it."""

    def fail(event: str, **fields: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    LogBridge(fail).emit(logging.LogRecord("asyncio", logging.ERROR, "", 0, "no more files", (), None))


def test_without_a_file_descriptor_texts_are_escaped() -> None:
    code = """
import resource
from netdump.server.audit import escaped
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
print(escaped(chr(27)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "\\x1b\n", done.stderr


def test_no_thread_to_write_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadsError, match="raise the limit"):
        LineWriter(io.StringIO())


def test_lines_are_written_by_a_thread() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    audit = open_audit(writer)
    for number in range(100):
        audit("event", number=number)
    writer.close()
    assert [json.loads(line)["number"] for line in stream.getvalue().splitlines()] == list(range(100))


def test_a_log_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_MAX", 50)
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    reading, writing = os.pipe()
    with open(reading) as reader, open(writing, "w") as stream:
        writer = LineWriter(stream)
        audit = open_audit(writer)
        for _ in range(1000):
            audit("event", text="x" * 500)
        writer.close()  # does not wait for ever, either
        written = dropped = 0
        while written + dropped < 1000:
            line = json.loads(reader.readline())
            if line["event"] == "event":
                written += 1
            else:
                dropped += line["lines"]
        assert dropped > 500
        monkeypatch.setattr(module, "CLOSE_S", 20)
        writer.close()


def test_a_log_whose_reader_has_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), open(writing, "w") as stream:
        writer = LineWriter(stream)
        open_audit(writer)("event")
        writer.close()


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
