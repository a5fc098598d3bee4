"""`netdump fetch`. What happens in between is tested in tests/remote/test_fetch.py."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.codec import expand
from netdump.errors import AlreadyExistsError, DamagedError, IncompleteDumpError, NotElfError, UnreachableError
from netdump.index.catalog import LocalCatalog
from netdump.index.record import State
from netdump.remote.staging import Staging
from netdump.store.store import Store
from tests.analyze.test_frames import DUMP
from tests.cli.collector import HALF, WHOLE, fill
from tests.index.stored import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.index.record import DumpRecord
    from tests.cli.commands import Shell


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
    assert ", 24.0 KiB of the image excluded by its filter), verified" in line
    assert done.err.startswith("netdump: fetching ")
    assert "PAGES ARE LOST: the host could not read 24.0 KiB (24,576 bytes) of its memory" in done.err
    assert f"which look like zeros in {here / name}; `netdump pages {WHOLE.id[:12]} --list lost`" in done.err


def test_of_a_dump_without_lost_pages_nothing_is_said(shell: Shell, folder: Path, here: Path) -> None:
    sample = Sample(pages=3)
    sample.store(Store(folder / "dumps"))
    done = shell.run("fetch", sample.id, "--root", folder, "-o", "core", "--json")
    assert (done.object["lost_bytes"], done.object["excluded_bytes"]) == (0, 0)
    assert "LOST" not in done.err
    assert "excluded" not in shell.run("fetch", sample.id, "--root", folder, "-o", "other").out


def test_where_modes_are_not_kept_it_is_told(
    shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exfat, where every file has the mode of the mount."""
    fill(folder)
    real = Staging.place

    def place(staging: Staging, image: Path, final: Path, *, replace: bool) -> None:
        real(staging, image, final, replace=replace)
        final.chmod(0o777)

    assert "open to other users" not in shell.run("fetch", WHOLE.id, "--root", folder).err
    monkeypatch.setattr(Staging, "place", place)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core")
    assert (done.status, f"{here / 'core'} is open to other users" in done.err) == (0, True)


@pytest.mark.parametrize(("name", "status"), [("x" * 300, 46), ("x" * 300 + "/core", 2)])
def test_a_name_that_cannot_even_be_looked_for(shell: Shell, folder: Path, here: Path, name: str, status: int) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", name)
    assert (done.status, "xxx" in done.err) == (status, True)
    assert os.listdir(here) == []


def test_from_a_folder_that_is_gone(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    here.rmdir()
    done = shell.run("fetch", WHOLE.id, "--root", folder)
    assert (done.status, "the current folder is gone" in done.err) == (2, True)


def test_json(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    fetched = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--json", "--jobs", "1").object
    assert fetched.pop("seconds") >= 0
    assert fetched.pop("transferred_bytes") > 1000
    assert fetched == {
        "id": WHOLE.id,
        "host": "web1",
        "path": str(here / "core"),
        "format": "elf",
        "complete": True,
        "bytes": len(WHOLE.image),
        "image_bytes": len(WHOLE.image),
        "root": WHOLE.root().hex(),
        "lost_bytes": 6 * 4096,
        "excluded_bytes": 6 * 4096,
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
    assert "holds the image up to byte 163,840 of 262,144" in done.err
    assert (done.object["complete"], done.object["bytes"], done.object["root"]) == (False, 163_840, None)
    assert (done.object["lost_bytes"], done.object["excluded_bytes"]) == (None, None)
    assert f"could not read look like zeros: `netdump pages {HALF.id[:12]} --list lost`" in done.err
    assert "not complete" in shell.run("fetch", HALF.id, "--root", folder, "-o", "core").out


def test_the_rest_of_a_dump_that_arrives_is_to_come(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    with HALF.open(Store(folder / "dumps")):
        done = shell.run("fetch", HALF.id, "--root", folder, "-o", "core")
    assert done.status == IncompleteDumpError.exit_status
    assert "(it is arriving): " in done.err
    assert "163,840 of 262,144; what follows is to come." in done.err
    assert os.listdir(here) == ["core.incomplete"]


def test_of_a_damaged_manifest_all_that_is_sound_is_fetched(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    manifest = folder / "dumps" / WHOLE.id / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"image_bytes", b"image_bytez"))
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--json")
    assert done.status == DamagedError.exit_status
    assert os.listdir(here) == ["core.incomplete"], "nothing proves that it is whole"
    assert (here / "core.incomplete").read_bytes() == WHOLE.image
    assert "THE DUMP IS DAMAGED at the collector" in done.err
    assert "manifest.json" in done.err
    assert (done.object["complete"], done.object["root"]) == (False, None)
    assert shell.run("log", WHOLE.id, "--root", folder).status == 0
    found = shell.run("verify", WHOLE.id, "--root", folder)
    assert (found.status, f"`netdump fetch {WHOLE.id[:12]}` still brings" in found.err) == (
        DamagedError.exit_status,
        True,
    )


def test_all_has_come_and_was_not_confirmed(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    (folder / "dumps" / WHOLE.id / "manifest.json").unlink()
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core")
    assert done.status == IncompleteDumpError.exit_status
    assert "its host has not confirmed it" in done.err


@pytest.mark.parametrize("answer", ["none", "late"])
def test_it_became_complete_while_it_was_fetched(
    shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The file is there then, whether or not the collector still is."""
    fill(folder)
    looked_up: list[DumpRecord] = []

    def show(catalog: LocalCatalog, dump_id: str) -> DumpRecord:
        if looked_up and answer == "none":
            raise UnreachableError("the collector is gone")
        record = plain(catalog, dump_id)
        looked_up.append(record if looked_up else replace(record, state=State.ARRIVING, totals=None))
        return looked_up[-1]

    plain = LocalCatalog.show
    monkeypatch.setattr(LocalCatalog, "show", show)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--json")
    assert (done.status, done.object["complete"]) == (0, True)
    assert (here / "core").read_bytes() == WHOLE.image
    if answer == "none":
        assert "whether any page of it is lost is not known: the collector is gone" in done.err
        assert (done.object["lost_bytes"], len(looked_up)) == (None, 1)
    else:
        assert "PAGES ARE LOST" in done.err
        assert (done.object["lost_bytes"], len(looked_up)) == (6 * 4096, 2)


def test_a_dump_damaged_at_the_collector_is_told_of_in_the_help(shell: Shell) -> None:
    """By its exit status, whatever of it is damaged."""
    assert "or 41 where it is damaged at the collector" in " ".join(shell.run("fetch", "--help").out.split())


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
    assert set(os.listdir(here)) <= {"core.netdump-partial"}  # if other segments came before this one was given up


def test_a_folder_is_meant_by_a_slash_at_the_end(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "usb/")
    assert (done.status, "the folder usb/ is not there" in done.err, os.listdir(here)) == (2, True, [])
    (here / "usb").mkdir()
    assert shell.run("fetch", WHOLE.id, "--root", folder, "-o", "usb/").status == 0
    assert os.listdir(here / "usb") == [f"vmcore-web1-{WHOLE.id[:12]}.elf"]


def test_an_empty_name_is_none(shell: Shell, folder: Path, here: Path) -> None:
    """As of a variable that is not set."""
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "")
    assert (done.status, "the name is empty" in done.err, os.listdir(here)) == (2, True, [])


def test_a_folder_that_is_not_there(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "nowhere/core")
    assert (done.status, "nowhere" in done.err) == (2, True)


def test_other_formats(shell: Shell, folder: Path, here: Path) -> None:
    DUMP.store(Store(folder / "dumps"))
    done = shell.run("fetch", DUMP.id, "--root", folder, "--format", "kdump", "--json")
    kdump = here / f"vmcore-web1-{DUMP.id[:12]}.kdump"
    assert (done.object["path"], done.object["format"]) == (str(kdump), "kdump")
    assert done.object["bytes"] == kdump.stat().st_size
    assert "netdump: writing pages" in done.err
    assert kdump.read_bytes()[:8] == b"KDUMP   "
    done = shell.run("fetch", DUMP.id, "--root", folder, "--format", "zst")
    packed = here / f"vmcore-web1-{DUMP.id[:12]}.elf.zst"
    assert done.out.endswith(f"unpack it with: zstd -d {packed}\n")
    with packed.open("rb") as source, (here / "core").open("xb") as core:
        expand(source, core, 1 << 23)
    assert (here / "core").read_bytes() == DUMP.image
    assert {path.stat().st_mode & 0o777 for path in (kdump, packed)} == {0o600}
    assert len(os.listdir(here)) == 3


@pytest.mark.parametrize(("dump", "name"), [(WHOLE, "core"), (HALF, "core.zst")])
def test_how_to_unpack_a_file_whose_name_zstd_does_not_know(
    shell: Shell, folder: Path, here: Path, dump: Sample, name: str
) -> None:
    """zstd refuses it: "unknown suffix"."""
    fill(folder)
    made = here / (name if dump is WHOLE else f"{name}.incomplete")
    done = shell.run("fetch", dump.id, "--root", folder, "-o", name, "--format", "zst")
    assert done.out.endswith(f"unpack it with: zstd -d {made} -o {made}.elf\n")


def test_compression_is_of_kdump(shell: Shell, folder: Path, here: Path) -> None:
    DUMP.store(Store(folder / "dumps"))
    options = ("fetch", DUMP.id, "--root", folder, "-o", "x", "--compression", "zstd")
    assert shell.run(*options).status == 2
    assert shell.run(*options, "--format", "zst").status == 2
    assert shell.run(*options, "--format", "kdump").status == 0


def test_a_core_that_is_none_has_no_pages(shell: Shell, folder: Path, here: Path) -> None:
    fill(folder)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--format", "kdump")
    assert (done.status, "is not an ELF core" in done.err) == (NotElfError.exit_status, True)
    assert os.listdir(here) == ["core.netdump-partial"]
    assert shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core").status == 0
    assert os.listdir(here) == ["core"]


@pytest.mark.parametrize("known", [(), ("data",), ("data", "alias", "zero")])
def test_totals_that_an_answer_lacks_are_not_needed(
    shell: Shell, folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...]
) -> None:
    fill(folder)
    plain = LocalCatalog.show

    def show(catalog: LocalCatalog, dump_id: str) -> DumpRecord:
        record = plain(catalog, dump_id)
        return replace(record, totals={name: size for name, size in (record.totals or {}).items() if name in known})

    monkeypatch.setattr(LocalCatalog, "show", show)
    done = shell.run("fetch", WHOLE.id, "--root", folder, "-o", "core", "--json")
    assert (done.status, done.object["lost_bytes"]) == (0, None), done.err
    assert (here / "core").read_bytes() == WHOLE.image
