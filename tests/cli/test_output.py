"""What commands print, and that nothing a stranger wrote can act on a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.cli.output import (
    FetchProgress,
    duration_text,
    exact_size_text,
    fetch_progress,
    print_facts,
    print_json,
    print_table,
    print_text,
    printable,
    share_text,
    size_text,
    warn,
)
from netdump.cli.signals import ENDS
from tests.threadlimit import limit_threads

if TYPE_CHECKING:
    import signal

HOSTILE = "a\x1b[31m[bold red]\x9b2J\u202eb\r\n\x00\x7f\u2028"


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_printable_is(text: str) -> None:
    assert printable(text).isprintable()
    assert set(printable(text, keep="\n")) <= {"\n", *printable(text)}
    if text.isprintable():
        assert printable(text) == text


def test_tables_show_hostile_text_and_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ID", "PANIC"), [("[link=x]y[/link]", HOSTILE), ("b" * 12, "x" * 500)])
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "PANIC"]
    assert lines[1].split()[0] == "[link=x]y[/link]"
    assert "[bold red]" in lines[1]
    assert r"\x1b[31m" in lines[1]
    assert lines[2].endswith("x" * 500)
    assert len(lines) == 3


def test_facts_and_logs(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("host", HOSTILE), ("kernel", "6.1")])
    out = capsys.readouterr().out
    assert out.count("\n") == 2
    assert out.splitlines()[1] == "kernel  6.1"
    print_facts([(HOSTILE, "6.1")])  # as a collector may call the states of pages
    assert capsys.readouterr().out.rstrip("\n") == f"{printable(HOSTILE)}  6.1"
    print_text(b"one\x1b]0;x\x07\r\n\ttwo \xff\n")
    assert capsys.readouterr().out == "one\\x1b]0;x\\x07\\r\n\ttwo \ufffd\n"
    print_text(b"no line feed")
    assert capsys.readouterr().out == "no line feed\n"
    print_text(b"")
    assert capsys.readouterr().out == ""


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"panic": HOSTILE})
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert out.isascii()
    assert json.loads(out) == {"panic": HOSTILE}


def test_sizes() -> None:
    assert [size_text(n) for n in (0, 1023, 1024, 217_763_840, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "207.7 MiB",
        "3.0 TiB",
    ]
    assert exact_size_text(217_763_840) == "207.7 MiB (217,763,840 bytes)"
    assert exact_size_text(5) == "5 bytes"


def test_durations() -> None:
    assert [duration_text(s) for s in (0.26, 12.4, 61, 3725)] == ["0.3 s", "12 s", "1m01s", "1h02m"]


def test_100_per_cent_means_all() -> None:
    assert [share_text(part, 1000) for part in (0, 5, 500, 994, 999, 1000)] == ["0%", "0%", "50%", "99%", "99%", "100%"]
    assert share_text((1 << 52) - 1, 1 << 52) == "99%"
    assert share_text(0, 0) == "100%"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_warning_acts_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    warn(HOSTILE)
    assert capsys.readouterr().err == f"netdump: {printable(HOSTILE)}\n"


def test_plain_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = FetchProgress(None, clock)
    progress.begin(100 << 20, 0)
    for _ in range(40):
        clock.now += 0.25
        progress.advance(5 << 18)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "netdump: fetching 100.0 MiB"
    assert lines[1:] == [
        "netdump: 25.0 MiB of 100.0 MiB (25%), 5.0 MiB/s, 15 s left",
        "netdump: 50.0 MiB of 100.0 MiB (50%), 5.0 MiB/s, 10 s left",
    ]


def test_more_than_was_to_come_takes_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = FetchProgress(None, clock)
    progress.begin(1 << 20, 0)
    clock.now += 5
    progress.advance(10 << 20)
    assert capsys.readouterr().err.endswith("10.0 MiB of 1.0 MiB (100%), 2.0 MiB/s, 0.0 s left\n")


def test_going_on_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = FetchProgress(None, clock)
    progress.begin(100 << 20, 50 << 20)
    clock.now += 10
    progress.advance(-(1 << 20))
    err = capsys.readouterr().err
    assert "going on: 50.0 MiB of 100.0 MiB" in err
    assert "49.0 MiB of 100.0 MiB (49%), 0 bytes/s" in err


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with fetch_progress() as progress:
        progress.begin(1000, 100)
        progress.advance(400)
        bar = progress._bar
        assert bar is not None
        bar.refresh()
    assert "500/1,000 bytes" in terminal.getvalue()


def test_a_bar_has_one_kind_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with fetch_progress() as progress:
        progress.begin(100 << 20, 0)
        bar = progress._bar
        assert bar is not None
        clock = Clock()
        bar.get_time = clock
        bar.tasks[0].start_time = clock.now
        for _ in range(2):
            clock.now += 1
            progress.advance(10 << 20)
        bar.refresh()
    assert "10.0 MiB/s" in terminal.getvalue()


@pytest.mark.parametrize(("columns", "what", "bar"), [(40, False, False), (64, True, False), (80, True, True)])
def test_on_a_narrow_terminal_the_figures_stay(
    monkeypatch: pytest.MonkeyPatch, columns: int, what: bool, bar: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with fetch_progress() as progress:
        progress.begin(1000 << 30, 0, "writing to standard output")
        assert progress._bar is not None
        clock = Clock()
        progress._bar.get_time = clock
        progress._bar.tasks[0].start_time = clock.now
        for _ in range(2):
            clock.now += 1
            progress.advance(200 << 30)
        progress._bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "400.0/1,000.0 GiB 200.0 GiB/s 0:00:03" in shown
    assert ("writing to standard output" in shown, "━" in shown) == (what, bar)


def test_elsewhere_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with fetch_progress() as progress:
        assert progress._bar is None


def test_where_no_thread_can_be_started_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    limit_threads(monkeypatch, 0)
    with fetch_progress() as progress:
        progress.begin(1 << 20, 0)
    assert "fetching 1.0 MiB" in terminal.getvalue()
    assert terminal.getvalue().rfind(SHOW_CURSOR) > terminal.getvalue().rfind(HIDE_CURSOR)


ENDED_BESIDE_A_BAR = """
import os
from netdump.cli.output import fetch_progress
with fetch_progress() as progress:
    progress.begin(1000, 100)
    os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_leaves_the_terminal_its_cursor(number: signal.Signals) -> None:
    ours, its = os.openpty()
    with closing(open(ours, "rb", buffering=0)) as terminal:
        script = [sys.executable, "-c", ENDED_BESIDE_A_BAR.format(number=int(number))]
        done = subprocess.run(script, stderr=its, env={**os.environ, "TERM": "xterm"}, timeout=60)
        os.close(its)
        shown = terminal.read(65536).decode()
    assert done.returncode == -number
    assert shown.rfind(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR) >= 0


def test_a_narrow_terminal_wraps_the_last_column_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    print_table(("ID", "PANIC"), [("0123456789ab", "word " * 20)])
    lines = terminal.getvalue().splitlines()
    assert all(len(line) <= 40 for line in lines[1:])  # the first one is bold
    assert "0123456789ab" in lines[1]
    assert len(lines) > 3


def test_on_a_terminal_that_is_too_narrow_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    print_table(("ID", "HOST", "PANIC"), [("0123456789ab", "web1.example.com", "word " * 20)])
    assert terminal.getvalue().splitlines()[1].split()[:3] == ["0123456789ab", "web1.example.com", "word"]


def test_tables_are_the_only_reason_to_load_rich() -> None:
    script = "import sys, netdump.cli.cmd_log; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
