"""`netdump estimate`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netdump.errors import EmptyCoreError, KernelDataError, NotElfError, SourceUnreadableError, TruncatedCoreError
from netdump.testing.elf_writer import Core, Load
from netdump.testing.memmap_writer import x86_64
from netdump.testing.struct_page_writer import ERAS
from netdump.vmcore import kcore
from tests.vmcore.made_up import populate

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.errors import CoreError
    from tests.cli.commands import Shell


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    populate(x86_64(ERAS["6.12"])).core().write(path)
    return path


def test_a_core_file(shell: Shell, core: Path) -> None:
    done = shell.run("estimate", core)
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["kernel", "6.12.0"]
    assert any(line.startswith("  cache_private ") for line in lines)
    assert lines[-2:] == [
        "",
        "The collector stores what is on the wire: over a fast network up to `data`, unless `compression` is set.",
    ]
    table = lines[lines.index("") + 1 : -2]
    assert table[0].split() == ["level", "left", "out", "data", "wire", "at", "100", "MiB/s", "leaves", "out"]
    assert [line.split()[0] for line in table[1:]] == ["0", "1", "2", "4", "8", "16", "31"]
    assert table[1].endswith("nothing")
    assert table[2].endswith("zero, which is sent at no level")
    assert table[1].split()[1:6] == table[2].split()[1:6]  # so the sizes are those of level 0
    assert table[-1].endswith("all of these")
    assert "looking through" in done.err


def test_json(shell: Shell, core: Path) -> None:
    shown = shell.run("estimate", core, "-d", "31", "-d", "0", "--json", "--compression", "0").object
    assert (shown["source"], shown["kernel_release"], shown["page_bytes"]) == (str(core), "6.12.0", 4096)
    assert [level["level"] for level in shown["levels"]] == [31, 0]
    small, whole = shown["levels"]
    assert whole["excluded_bytes"] == 0
    assert small["excluded_bytes"] == 4096 * (sum(shown["pages"].values()) - shown["pages"]["kernel"])
    for level in shown["levels"]:
        assert level["excluded_bytes"] + level["zero_bytes"] + level["data_bytes"] == shown["memory_bytes"]
        assert level["wire_bytes"] == level["data_bytes"]
    assert shown["sampled_pages"] > 0
    assert (shown["crashkernel_bytes"], shown["remark"]) == (0, None)


def test_the_running_machine(shell: Shell, core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iomem").write_text("01800000-018fffff : Crash kernel\n")
    monkeypatch.setattr("netdump.cli.cmd_estimate.KCORE", str(core))
    monkeypatch.setattr(
        "netdump.cli.cmd_estimate.crash_kernel_memory", lambda: kcore.crash_kernel_memory(str(tmp_path / "iomem"))
    )
    whole = shell.run("estimate", core, "--json").object
    assert whole["crashkernel_bytes"] == 1 << 20
    assert shell.run("estimate", core).out.count("reserved for the capture kernel  1.0 MiB") == 1
    monkeypatch.undo()
    assert shell.run("estimate", core, "--json").object["memory_bytes"] == whole["memory_bytes"] + (1 << 20)


def test_a_machine_that_is_not_understood_in_part(shell: Shell, tmp_path: Path) -> None:
    machine = populate(x86_64(ERAS["6.12"]))
    machine.lines["NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"] = ""
    machine.core().write(tmp_path / "core")
    done = shell.run("estimate", tmp_path / "core")
    assert done.status == 0
    assert "less would be left out than the levels ask for: " in done.err


def test_a_level_that_is_named_twice(shell: Shell, core: Path) -> None:
    shown = shell.run("estimate", core, "-d", "31", "-d", "0", "-d", "31", "--json").object
    assert [level["level"] for level in shown["levels"]] == [31, 0]


def test_data_that_is_rare(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that finds none does not mean that there is none."""
    monkeypatch.setattr("netdump.analyze.estimate.PROBES", 2)
    machine = x86_64(ERAS["6.12"], ram_bytes=256 << 20)
    for pfn in range(0x4000, 0xC000, 2):  # one page in two is of the kernel, and zero
        machine.frames.cache(pfn)
    machine.core().write(tmp_path / "core")
    done = shell.run("estimate", tmp_path / "core", "-d", "0", "-d", "31")
    assert "the sample may have missed data that is rare: up to " in done.err
    small = shell.run("estimate", tmp_path / "core", "-d", "31", "--json").object["levels"][0]
    whole = shell.run("estimate", tmp_path / "core", "-d", "0", "--json").object["levels"][0]
    assert 0 < whole["unseen_bytes"] <= whole["zero_bytes"]
    assert 0 <= small["unseen_bytes"] <= whole["unseen_bytes"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become somebody else")
def test_without_the_rights(shell: Shell, core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core.chmod(0o600)
    monkeypatch.setattr("netdump.cli.cmd_estimate.KCORE", str(core))
    # Loads all that is needed: nobody else may be allowed to read this Python, which then believes for as long as it
    # runs that it has no such codec.
    assert shell.run("estimate", core).status == 0
    os.seteuid(65534)
    try:
        done = shell.run("estimate", core)
    finally:
        os.seteuid(0)
    assert done.status == SourceUnreadableError.exit_status
    assert f"{core} cannot be opened: only root may read it; run this as root (sudo)" in done.err


def test_what_cannot_be_estimated(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("estimate", tmp_path / "absent").status == SourceUnreadableError.exit_status
    (tmp_path / "text").write_text("hello")
    assert shell.run("estimate", tmp_path / "text").status == NotElfError.exit_status
    Core([Load(0, 4096)]).write(tmp_path / "bare")
    done = shell.run("estimate", tmp_path / "bare")
    assert done.status == KernelDataError.exit_status
    assert "no VMCOREINFO" in done.err


@pytest.mark.parametrize(("kept", "error"), [(0, EmptyCoreError), (5000, TruncatedCoreError)])
def test_what_was_not_copied_to_its_end(shell: Shell, tmp_path: Path, kept: int, error: type[CoreError]) -> None:
    (tmp_path / "core").write_bytes(Core([Load(0, 4096)]).build()[:kept])
    assert shell.run("estimate", tmp_path / "core").status == error.exit_status
    assert f"  {error.exit_status}  {error.__doc__}" in shell.run("estimate", "--help").out
