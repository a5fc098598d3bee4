"""The demo does what README.md promises."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from netdump.cli import cmd_demo
from netdump.errors import DemoError
from tests.e2e.rig import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def demo(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netdump", "demo", *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


@pytest.mark.e2e
def test_it_shows_the_main_job_and_cleans_up(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is complete at" in done.stdout
    assert "then cut" in done.stdout
    assert "then finished" in done.stdout
    digests = re.findall(r"SHA-256 ([0-9a-f]{64})", done.stdout)
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
def test_it_leaves_the_folder_when_asked(tmp_path: Path) -> None:
    assert demo(tmp_path, "--keep").returncode == 0
    (folder,) = tmp_path.iterdir()
    assert (folder / "vmcore").stat().st_size == (folder / "core").stat().st_size


def test_a_place_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("netdump.samples.write_core", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = CliRunner().invoke(cmd_demo.command)
    assert isinstance(done.exception, DemoError)
    assert "core cannot be written: No space left on device; TMPDIR" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_collector_and_removes_the_folder(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        ["env", "--default-signal=HUP", sys.executable, "-u", "-m", "netdump", "demo"],  # pytest may run under nohup
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,  # so that whatever it started can be found, and ended, by its group
    ) as process:
        try:
            assert process.stdout is not None
            while "$ netdump token" not in (line := process.stdout.readline()):
                assert line, "the demo ended before its collector ran"
            assert list(tmp_path.glob("netdump-demo-*/collector/serve.json"))
            process.send_signal(number)
            rest, _ = process.communicate(timeout=60)
            assert process.returncode == -number, rest
            assert "Traceback" not in rest
            assert list(tmp_path.iterdir()) == []
            # A command that was just being started ends by itself.
            wait_until(lambda: is_gone(process.pid), "the end of all processes of the demo")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_command_that_fails_is_shown_and_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(cmd_demo, "_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit('no disk')"])
    core = tmp_path / "core"
    core.write_bytes(b"x")
    done = CliRunner().invoke(cmd_demo.command, ["--core", str(core)])
    assert isinstance(done.exception, DemoError)
    assert "no disk" in done.output
    assert list(tmp_path.iterdir()) == [core]
