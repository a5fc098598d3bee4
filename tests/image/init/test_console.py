from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init import console

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_into_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    monkeypatch.setattr(console, "KMSG", str(log))
    console.say("two\nlines")
    assert log.read_bytes() == b"<4>netdump-init: two lines"


def test_without_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "KMSG", str(tmp_path / "absent" / "kmsg"))
    console.say("x" * 5000)
    assert capfd.readouterr().err == f"netdump-init: {'x' * console.LINE_BYTES_MAX}\n"
