"""What is kept of fuzzing: the ledger, and the archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.found import ARCHIVE_BYTES_MAX, FOUND, Work, found, keep, load_ledger, save_ledger
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path


def test_the_ledger_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    assert load_ledger(path) == {}
    ledger = {"runs": Work().more(60.4, 1000, 0).more(30.0, 500, 1), "core": Work(kept=3)}
    save_ledger(ledger, path)
    assert load_ledger(path) == ledger
    assert ledger["runs"] == Work(cpu_s=90, inputs=1500, findings=1)
    assert len(path.read_text().splitlines()) == 4


def test_equal_inputs_make_equal_archives(tmp_path: Path) -> None:
    inputs = [b"bb", b"", b"a"]
    assert keep("runs", inputs, tmp_path) == 3
    assert sorted(found("runs", tmp_path)) == [b"", b"a", b"bb"]
    first = (tmp_path / "runs.zip").read_bytes()
    keep("runs", reversed(inputs), tmp_path)
    assert (tmp_path / "runs.zip").read_bytes() == first
    assert found("nothing", tmp_path) == []


def test_there_is_an_end_to_what_is_kept(tmp_path: Path) -> None:
    inputs = [bytes(number * step % 251 for number in range(2000)) for step in range(1, 250)]
    kept = keep("runs", inputs, tmp_path)
    assert 5 < kept < len(inputs)
    assert (tmp_path / "runs.zip").stat().st_size < 2 * ARCHIVE_BYTES_MAX


def test_all_that_is_kept_belongs_to_targets() -> None:
    assert {path.stem for path in FOUND.glob("*.zip")} <= set(TARGETS)
    assert set(load_ledger()) <= set(TARGETS)
