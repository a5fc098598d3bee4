"""`netdump fetch -o -`: to standard output."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.cli.output import FetchProgress
from netdump.cli.piping import pour
from netdump.errors import IncompleteDumpError, OutputError, StorageFaultError
from netdump.store.store import Store
from tests.analyze.test_frames import DUMP
from tests.cli.collector import HALF, WHOLE, fill

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from tests.cli.commands import Done, Shell

ELSEWHERE = "netdump: "
"""What every line on standard error begins with."""


def catch(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What goes to standard output from here on; a fixture would lose it to pytest, which sets its own once more."""
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, write_through=True))
    return taken


def run(dump_id: str, folder: Path, stdout: int | IO[bytes]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "netdump", "fetch", dump_id, "--root", str(folder), "-o", "-"]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)


@pytest.mark.parametrize(
    "options", [(), ("--format", "zst"), ("--format", "kdump"), ("--format", "kdump", "--compression", "none")]
)
def test_the_bytes_are_those_of_the_file(
    shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    out = catch(monkeypatch)
    DUMP.store(Store(folder / "dumps"))
    done: Done = shell.run("fetch", DUMP.id, "--root", folder, "-o", "-", *options)
    assert done.status == 0
    assert os.listdir(here) == []
    lines = done.err.splitlines()
    assert ": standard output" in done.err
    assert all(line.startswith(ELSEWHERE) for line in lines)
    assert ", verified, root " in done.err
    assert "look like zeros in standard output" in done.err or "are marked as such in standard output" in done.err
    piped = out.getvalue()
    assert shell.run("fetch", DUMP.id, "--root", folder, "-o", "./-", *options).status == 0
    assert (here / "-").read_bytes() == piped


def test_of_a_dump_that_is_not_complete_what_there_is(
    shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = catch(monkeypatch)
    fill(folder)
    done = shell.run("fetch", HALF.id, "--root", folder, "-o", "-")
    assert done.status == IncompleteDumpError.exit_status
    assert "THE DUMP IS NOT COMPLETE (it is interrupted): standard output holds the image up to byte" in done.err
    assert out.getvalue() == HALF.image[: len(out.getvalue())] != b""
    assert os.listdir(here) == []


def test_where_it_may_not_go(shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = catch(monkeypatch)
    fill(folder)
    both = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "-", "--json")
    assert (both.status, "-o - and --json exclude each other" in both.err) == (2, True)
    assert json.loads(out.getvalue())["error"]["code"] == "usage"
    out.truncate(0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "-")
    assert (shown.status, "standard output is a terminal" in shown.err) == (2, True)
    assert (out.getvalue(), os.listdir(here)) == (b"", [])


def test_a_reader_that_goes_away_costs_nothing_that_has_come(folder: Path, here: Path) -> None:
    fill(folder)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(WHOLE.id, folder, writer).returncode == -signal.SIGPIPE
    finally:
        os.close(writer)
    assert os.listdir(here) == [f"vmcore-web1-{WHOLE.id[:12]}.elf.netdump-partial"]
    with open("/dev/full", "wb") as full:
        failed = run(WHOLE.id, folder, full)
    assert failed.returncode == OutputError.exit_status
    assert b"the output cannot be written: No space left on device" in failed.stderr
    done = run(WHOLE.id, folder, subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, WHOLE.image)
    assert b"0 bytes transferred" in done.stderr
    assert os.listdir(here) == []


def test_a_file_that_cannot_be_read_is_not_the_output_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = catch(monkeypatch)
    with pytest.raises(StorageFaultError, match="nothing here"):
        pour(tmp_path / "nothing here", FetchProgress(None))
    with pytest.raises(StorageFaultError, match="Is a directory"):
        pour(tmp_path, FetchProgress(None))
    assert out.getvalue() == b""
