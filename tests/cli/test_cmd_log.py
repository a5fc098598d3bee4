"""`netdump log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.store.store import Store
from tests.cli.collector import HALF, fill
from tests.index.stored import LOG, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


def test_the_log_as_it_came(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("log", HALF.id[:6], "--root", folder)
    assert (done.status, done.out, done.err) == (0, LOG.decode(), "")


def test_json_has_it_as_one_string(shell: Shell, folder: Path) -> None:
    fill(folder)
    told = {"id": HALF.id, "log": LOG.decode(), "log_truncated": False}
    assert shell.run("log", HALF.id, "--root", folder, "--json").object == told


def test_no_log_is_said(shell: Shell, folder: Path) -> None:
    sample = Sample(log=None)
    sample.store(Store(folder / "dumps"), chunks=0)
    done = shell.run("log", sample.id, "--root", folder)
    assert (done.status, done.out) == (0, "")
    assert "no kernel log" in done.err


def test_why_there_is_no_log_is_said(shell: Shell, folder: Path) -> None:
    sample = Sample(log=None, remark="no kernel log: VMCOREINFO is not there")
    sample.store(Store(folder / "dumps"), chunks=0)
    done = shell.run("log", sample.id, "--root", folder)
    assert (done.status, done.out) == (0, "")
    assert done.err.endswith(f"; its remark: {sample.remark}\n")


def test_lines_that_it_lacks_are_said(shell: Shell, folder: Path) -> None:
    sample = Sample(log_truncated=True)
    sample.store(Store(folder / "dumps"), chunks=0)
    done = shell.run("log", sample.id, "--root", folder)
    assert (done.status, done.out) == (0, LOG.decode())
    assert (
        done.err == f"netdump: the kernel log of dump {sample.id} lacks lines, which were too many, lost or damaged\n"
    )
    assert shell.run("log", sample.id, "--root", folder, "--json").object["log_truncated"] is True
