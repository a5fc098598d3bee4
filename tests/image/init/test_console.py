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


def test_notes_for_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "KMSG", str(tmp_path / "kmsg"))
    (tmp_path / "kmsg").touch()
    monkeypatch.setattr(console, "NOTES", str(tmp_path / "notes"))
    assert console.notes() == []
    for text in ("no\ncarrier", "no lease", "no lease"):
        console.warn(text)
    assert console.notes() == ["no carrier", "no lease"]
    for number in range(1000):
        console.warn(f"{number}".ljust(100))
    assert console.NOTES_BYTES_MAX < sum(map(len, console.notes())) < 2 * console.NOTES_BYTES_MAX
    monkeypatch.setattr(console, "NOTES", str(tmp_path / "absent" / "notes"))
    console.warn("still on the console")
    assert console.notes() == []
