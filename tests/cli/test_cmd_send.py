"""`netdump send`, reached through the group and directly, is one command."""

from __future__ import annotations

import subprocess
import sys


def test_the_group_hands_everything_over() -> None:
    def run(*command: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    direct = run("-m", "netdump", "send", "--config", "/nonexistent", "/nonexistent")
    grouped = run("-m", "netdump.cli.main", "send", "--config", "/nonexistent", "/nonexistent")
    assert direct == grouped
    assert direct[0] not in {0, 1, 2}
