from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.checkup.finding import State
from netdump.image.checkup.kernelconfig import HIGHMEM_KIB, NEEDS, WISHES, X86_NEEDS, check_config
from tests.image.checkup.machines import make_kernel, only

if TYPE_CHECKING:
    from pathlib import Path

FULL = {option: "y" for need in (*NEEDS, *X86_NEEDS, *WISHES) for option in need.options}


def test_a_kernel_that_has_all(tmp_path: Path) -> None:
    finding = only(check_config(make_kernel(tmp_path, FULL), "x86_64", None))
    assert finding.state is State.OK
    assert f"has all of the {len(NEEDS) + len(X86_NEEDS) + len(WISHES)} options" in finding.fact


@pytest.mark.parametrize("need", [*NEEDS, *X86_NEEDS])
def test_each_option_is_missed(need: tuple[tuple[str, ...], str], tmp_path: Path) -> None:
    config = {name: value for name, value in FULL.items() if name not in need[0]}
    finding = only(check_config(make_kernel(tmp_path, config), "x86_64", None))
    assert finding.state is State.PROBLEM
    assert all(f"CONFIG_{option}" in finding.fact for option in need[0])
    assert need[1] in finding.fact


def test_a_module_is_not_enough_before_there_are_modules(tmp_path: Path) -> None:
    kernel = make_kernel(tmp_path, {**FULL, "BINFMT_SCRIPT": "m"})
    assert only(check_config(kernel, "x86_64", None)).state is State.PROBLEM


def test_one_way_of_loading_and_of_packing_is_enough(tmp_path: Path) -> None:
    config = {name: value for name, value in FULL.items() if name not in {"KEXEC", "RD_ZSTD", "RD_XZ"}}
    assert only(check_config(make_kernel(tmp_path, config), "x86_64", None)).state is State.OK
    del config["RD_GZIP"]
    finding = only(check_config(make_kernel(tmp_path, config), "x86_64", None))
    assert (finding.state, "CONFIG_RD_ZSTD or CONFIG_RD_XZ or CONFIG_RD_GZIP" in finding.fact) == (State.WARNING, True)


def test_architectures_differ(tmp_path: Path) -> None:
    fixed = {name: value for name, value in FULL.items() if name != "RELOCATABLE"}
    assert only(check_config(make_kernel(tmp_path, fixed), "aarch64", None)).state is State.OK
    kernel = make_kernel(tmp_path, FULL)
    assert only(check_config(kernel, "i686", HIGHMEM_KIB)).state is State.OK
    for memory in (HIGHMEM_KIB + 1, None):
        assert "CONFIG_HIGHMEM4G or CONFIG_HIGHMEM64G" in only(check_config(kernel, "i686", memory)).fact
    high = make_kernel(tmp_path, {**FULL, "HIGHMEM64G": "y"})
    assert only(check_config(high, "i686", None)).state is State.OK


def test_a_configuration_that_is_nowhere(tmp_path: Path) -> None:
    finding = only(check_config(make_kernel(tmp_path, {}), "x86_64", None))
    assert (finding.state, "is neither in /boot nor" in finding.fact) == (State.UNKNOWN, True)
