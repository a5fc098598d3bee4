"""`netdump verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.cli.cmd_verify import show
from netdump.errors import DamagedError
from netdump.store.findings import Damage, Finding, Report
from netdump.store.store import Store
from tests.cli.collector import HALF, WHOLE, fill

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.commands import Shell


def test_sound_dumps(shell: Shell, folder: Path) -> None:
    fill(folder)
    done = shell.run("verify", WHOLE.id[:6], "--root", folder)
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        f"dump {WHOLE.id} is complete and sound: 256.0 KiB (262,144 bytes) of image in 8 chunks, 4 segments\n"
    )
    assert "sound as far as it has come" in shell.run("verify", HALF.id, "--root", folder).out


def test_damage_is_listed_and_remembered(shell: Shell, folder: Path) -> None:
    fill(folder)
    segment = min((folder / "dumps" / WHOLE.id / "segments").iterdir())
    data = bytearray(segment.read_bytes())
    data[250] ^= 1
    segment.write_bytes(data)
    done = shell.run("verify", WHOLE.id, "--root", folder)
    assert done.status == DamagedError.exit_status
    assert segment.name in done.out
    assert "DAMAGED" in done.err
    shown = shell.run("verify", WHOLE.id, "--root", folder, "--json")
    assert shown.status == DamagedError.exit_status
    assert (shown.object["ok"], shown.object["id"], len(shown.object["findings"])) == (False, WHOLE.id, 1)
    (dump,) = shell.run("list", "--root", folder, "--state", "damaged", "--json").object["dumps"]
    assert dump["id"] == WHOLE.id


def test_what_is_left_of_a_damaged_dump_is_told_of(shell: Shell, folder: Path) -> None:
    """Its host has rebooted since: the vmcore may be the last copy of what has rotted."""
    fill(folder)
    Store(folder / "dumps").dump(WHOLE.id).reassemble()
    segment = min((folder / "dumps" / WHOLE.id / "segments").iterdir())
    data = bytearray(segment.read_bytes())
    data[250] ^= 1
    segment.write_bytes(data)
    done = shell.run("verify", WHOLE.id, "--root", folder)
    assert (done.status, "where it cannot, take the vmcore of that copy" in done.err) == (41, True)
    shown = shell.run("show", WHOLE.id, "--root", folder).out
    assert "vmcore      restored at the collector while the dump was sound\n" in shown
    (folder / "dumps" / WHOLE.id / "vmcore").unlink()
    assert "take the vmcore" not in shell.run("verify", WHOLE.id, "--root", folder).err
    assert "vmcore      " not in shell.run("show", WHOLE.id, "--root", folder).out


def test_long_lists_of_damage_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show(Report("a" * 32, True, 1, 2, 3, (Finding(Damage.BAD_DIGEST, "x\x1b.seg", 5, "why"),), 7))
    out, err = capsys.readouterr()
    assert out == "x\\x1b.seg, byte 5: why (bad-digest)\n… and 7 more\n"
    assert "DAMAGED" in err


def test_json(shell: Shell, folder: Path) -> None:
    fill(folder)
    shown = shell.run("verify", WHOLE.id, "--root", folder, "--json").object
    assert (shown["ok"], shown["complete"], shown["image_bytes"], shown["findings"]) == (True, True, 262_144, [])
