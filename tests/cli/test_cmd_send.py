"""`netdump send`, reached through the group and directly, is one command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from netdump.errors import ConfigMissingError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_group_hands_everything_over() -> None:
    def run(*command: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    direct = run("-m", "netdump", "send", "--config", "/nonexistent", "/nonexistent")
    grouped = run("-m", "netdump.cli.main", "send", "--config", "/nonexistent", "/nonexistent")
    assert direct == grouped
    assert direct[0] not in {0, 1, 2}


def test_the_shell_completes_options_and_files() -> None:
    def completed(words: str, at: int) -> list[str]:
        asked = {"_NETDUMP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        command = "from netdump.cli.main import netdump_command; netdump_command(prog_name='netdump')"
        done = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, timeout=60, env={**os.environ, **asked}
        )
        return done.stdout.split()

    assert completed("netdump send --de", 2) == ["plain,--deadline"]
    assert completed("netdump send --drill --c", 3) == ["plain,--config"]
    assert completed("netdump send --config /var", 3) == ["file,/var"]


def test_a_full_disk_below_the_output_does_not_change_the_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "netdump", "send", "core", "--config", str(tmp_path / "absent"), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == ConfigMissingError.exit_status
    assert done.stderr.endswith("netdump: the JSON object cannot be written: No space left on device\n")
