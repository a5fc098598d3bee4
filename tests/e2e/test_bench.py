"""The benchmark runs: its smallest stage, with the real peers, in a few seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_start_up_is_measured_against_ssh(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    argv = [sys.executable, "-m", "bench", "--quick", "--only", "start-up", "--json", str(out)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2], env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "netdump -d 0" in done.stdout
    results = json.loads(out.read_text())
    (contest,) = results["contests"]
    assert {result["name"] for result in contest["results"]} >= {"netdump -d 0", "scp", "cat | ssh"}
    assert results["figures"]["upload.tiny.ratio"] > 0
    assert 8 < results["figures"]["client.peak_mib"] <= 32
