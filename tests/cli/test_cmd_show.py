"""`netdump show`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from netdump.analyze.panic import find_panic
from netdump.cli.cmd_show import LEAD_LINES, TAIL_LINES, tail
from netdump.errors import AmbiguousIdError, DumpNotFoundError
from netdump.pki import init_authority
from netdump.store.store import Store
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import PANIC, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


def test_all_facts_of_a_complete_dump(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("show", WHOLE.id[:8], "--root", folder)
    assert done.status == 0
    facts = {line[:10].strip(): line[12:] for line in done.out.partition("\n\n")[0].splitlines()}
    assert facts["dump"] == WHOLE.id
    assert facts["state"] == "complete"
    assert facts["host"] == "web1 (calls itself crashy)"
    assert facts["panic"] == PANIC
    assert facts["kernel"] == "6.1.0-56-cloud-amd64 #1 SMP PREEMPT_DYNAMIC x86_64"
    assert facts["crashed"] == "2026-11-22T20:03:50Z by the host's clock"
    assert facts["completed"] == "2026-11-22T20:04:10Z"
    assert facts["image"] == "256.0 KiB (262,144 bytes), pages of 4,096, dump level 31"
    assert facts["arrived"] == "100%, 256.0 KiB (262,144 bytes)"
    assert facts["zero"] == "11%, 28.0 KiB (28,672 bytes)"
    assert facts["excluded"].endswith(": free 24,576")
    assert facts["root"] == WHOLE.root().hex()
    assert facts["receipt"] == "good, signed by localhost"
    assert facts["vmcore"].startswith("not restored")
    assert "remark" not in facts
    assert done.out.endswith(f"  [   14.6] {PANIC}\n")


def test_an_interrupted_dump(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("show", HALF.id, "--root", folder)
    assert "state       interrupted (a drill: nothing crashed)\n" in done.out
    assert "arrived     62%, 160.0 KiB (163,840 bytes)\n" in done.out
    for absent in ("receipt", "root", "completed", "vmcore", "zero"):
        assert f"\n{absent}" not in done.out


def test_json(shell: Shell, folder: Path) -> None:
    fill(folder)
    shown = shell.run("show", WHOLE.id, "--root", folder, "--json").object
    assert shown["id"] == WHOLE.id
    assert shown["receipt"] == {"good": True, "collector": "localhost", "problem": None}
    assert shown["log_tail"][-1].endswith(PANIC)
    assert shell.run("show", HALF.id, "--root", folder, "--json").object["receipt"] is None


def test_a_receipt_that_is_not_the_collectors(shell: Shell, folder: Path, tmp_path: Path) -> None:
    fill(folder)
    other = tmp_path / "other"
    init_authority(other, ["localhost"])
    (folder / "pki").rename(tmp_path / "old-pki")
    (other / "pki").rename(folder / "pki")
    assert "receipt     NOT GOOD: " in shell.run("show", WHOLE.id, "--root", folder).out
    receipt = folder / "dumps" / WHOLE.id / "receipt.json"
    receipt.write_bytes(b"{}")
    assert shell.run("show", WHOLE.id, "--root", folder, "--json").object["receipt"]["good"] is False
    receipt.unlink()
    assert "receipt     none\n" in shell.run("show", WHOLE.id, "--root", folder).out


def test_the_receipt_of_another_dump(shell: Shell, folder: Path) -> None:
    store = fill(folder)
    other = Sample(number=7).store(store)
    shutil.copy(folder / "dumps" / WHOLE.id / "receipt.json", folder / "dumps" / other / "receipt.json")
    assert "receipt     NOT GOOD: the receipt is for another dump\n" in shell.run("show", other, "--root", folder).out


def test_candidates_are_named(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("show", "abcd", "--root", folder)
    assert done.status == AmbiguousIdError.exit_status
    assert WHOLE.id in done.err
    assert HALF.id in done.err
    assert shell.run("show", "ffff", "--root", folder).status == DumpNotFoundError.exit_status


def test_the_restored_image_is_named(shell: Shell, folder: Path) -> None:
    store = fill(folder)
    store.dump(WHOLE.id).reassemble()
    assert "vmcore      restored at the collector\n" in shell.run("show", WHOLE.id, "--root", folder).out


def test_the_remark_of_a_damaged_dump(shell: Shell, folder: Path) -> None:
    fill(folder)
    min((folder / "dumps" / WHOLE.id / "segments").iterdir()).unlink()
    done = shell.run("show", WHOLE.id, "--root", folder)
    assert "state       damaged\n" in done.out
    assert "is missing\n" in done.out


def shown_of(log: bytes) -> list[bytes]:
    return tail(log, find_panic(log))


@pytest.mark.parametrize("before", [0, 1, 50])
def test_the_log_is_shown_around_the_panic(before: int) -> None:
    lines = [b"line %d" % number for number in range(before)] + [f"[1.0] {PANIC}".encode()] + [b"trace"] * 50
    shown = shown_of(b"\n".join(lines))
    assert shown[min(before, LEAD_LINES)].endswith(PANIC.encode())
    assert len(shown) == TAIL_LINES


def test_the_death_is_shown_that_the_line_is_of() -> None:
    """Not an earlier one that began with the same words."""
    oops = [b"[5.0] BUG: kernel NULL pointer dereference, address: 0000000000000008", b"[5.0] Oops: 0000 [#1] SMP"]
    died = [b"[9.0] BUG: kernel NULL pointer dereference, address: 0000000000000008", b"[9.0] Oops: 0000 [#2] SMP"]
    log = b"\n".join([*oops, *[b"[6.0] goes on"] * 50, *died, b"[9.1] Kernel panic - not syncing: Fatal exception"])
    assert shown_of(log)[LEAD_LINES:] == log.split(b"\n")[-3:]


def test_a_panic_is_found_whatever_is_in_its_line() -> None:
    """The record's is cut, and has no control characters."""
    panic = b"[9.0] Kernel panic - not syncing: a\tb\x0cc " + b"x" * 500
    log = b"\n".join([*[b"[1.0] line"] * 50, panic, *[b"[9.1] trace"] * 50])
    assert shown_of(log)[LEAD_LINES] == panic


def test_without_a_panic_the_end_is_shown() -> None:
    lines = [b"line %d" % number for number in range(50)]
    assert shown_of(b"\n".join(lines)) == lines[-TAIL_LINES:]
    assert shown_of(b"\n".join(lines) + b"\n") == lines[-TAIL_LINES:]
    assert shown_of(b"") == []
    assert shown_of(b"one") == [b"one"]


def test_hostile_logs_do_not_reach_the_terminal(shell: Shell, folder: Path) -> None:
    log = b"[1.0] \x1b[2J\x9b[bold]x\r\n[2.0] Kernel panic - not syncing: \x1b]0;x\x07[red]y\n"
    sample = Sample(number=5, log=log)
    (folder / "dumps").mkdir()
    sample.store(Store(folder / "dumps"), chunks=0)
    for name in ("show", "log"):
        out = shell.run(name, sample.id, "--root", folder).out
        assert out.replace("\n", "").isprintable()
    assert "[red]y" in shell.run("list", "--root", folder).out
