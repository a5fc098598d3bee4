"""`netdump fetch`. What happens in between is tested in tests/remote/test_fetch.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import AlreadyExistsError, DamagedError, IncompleteDumpError
from netdump.store import Store
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_a_core_in_the_current_folder(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id[:6], "--root", folder)
    name = f"vmcore-web1-{WHOLE.id[:12]}.elf"
    assert done.status == 0
    assert os.listdir(here) == [name]
    assert (here / name).read_bytes() == WHOLE.image
    assert (here / name).stat().st_mode & 0o777 == 0o600
    (line,) = done.out.splitlines()
    assert line.startswith("256.0 KiB (262,144 bytes) in ")
    end = f"verified, root {WHOLE.root().hex()}: {here / name}; open it with: crash VMLINUX {here / name}"
    assert line.endswith(end)
    assert done.err.startswith("netdump: fetching ")


def test_json(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    fetched = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--json", "--jobs", "1").object
    assert fetched.pop("seconds") >= 0
    assert fetched.pop("transferred_bytes") > 1000
    assert fetched == {
        "id": WHOLE.id,
        "host": "web1",
        "path": str(here / "core"),
        "complete": True,
        "bytes": len(WHOLE.image),
        "image_bytes": len(WHOLE.image),
        "root": WHOLE.root().hex(),
    }


def test_into_a_folder(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    assert shell.run("fetch", WHOLE.id, "--root", folder, "-o", here).status == 0
    assert os.listdir(here) == [f"vmcore-web1-{WHOLE.id[:12]}.elf"]


def test_an_interrupted_dump_is_told_of_loudly(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", HALF.id, "--root", folder, "-o", "core", "--json")
    assert done.status == IncompleteDumpError.exit_status
    assert os.listdir(here) == ["core.incomplete"]
    assert (here / "core.incomplete").read_bytes() == HALF.image[:163_840]
    assert "THE DUMP IS NOT COMPLETE (it is interrupted)" in done.err
    assert "ends at byte 163,840 of 262,144" in done.err
    assert (done.object["complete"], done.object["bytes"], done.object["root"]) == (False, 163_840, None)
    assert "not complete" in shell.run("fetch", HALF.id, "--root", folder, "-o", "core").out


def test_nothing_has_come(shell: Shell, folder: Path, here: Path) -> None:
    sample = Sample()
    sample.store(Store(folder / "dumps"), chunks=0)
    assert shell.run("fetch", sample.id, "--root", folder).status == IncompleteDumpError.exit_status
    assert os.listdir(here) == []


def test_what_is_there_is_kept(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    (here / "core").write_bytes(b"mine")
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core")
    assert (done.status, "--force" in done.err) == (AlreadyExistsError.exit_status, True)
    assert (here / "core").read_bytes() == b"mine"
    assert shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--force").status == 0
    assert (here / "core").read_bytes() == WHOLE.image


def test_damage_leaves_no_file(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    segment = min((folder / "dumps" / WHOLE.id / "segments").iterdir())
    data = bytearray(segment.read_bytes())
    data[250] ^= 1
    segment.write_bytes(data)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core")
    assert (done.status, "netdump verify" in done.err) == (DamagedError.exit_status, True)
    assert os.listdir(here) == ["core.netdump-partial"]


def test_a_folder_that_is_not_there(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "nowhere/core")
    assert (done.status, "nowhere" in done.err) == (2, True)
