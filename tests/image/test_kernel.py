from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import KernelMissingError
from netdump.image.kernel import find_kernel
from tests.image.modules import write_tree

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "6.1.0-test"


def test_files_and_configuration(tmp_path: Path) -> None:
    write_tree(tmp_path, RELEASE, {})
    (tmp_path / "boot").mkdir()
    (tmp_path / f"boot/config-{RELEASE}").write_text('CONFIG_RD_ZSTD=y\n# CONFIG_RD_XZ is not set\nCONFIG_A="b"\n')
    (tmp_path / f"boot/vmlinuz-{RELEASE}").write_bytes(b"")
    kernel = find_kernel(RELEASE, tmp_path)
    assert kernel.image() == tmp_path / f"boot/vmlinuz-{RELEASE}"
    assert kernel.config == {"RD_ZSTD": "y", "A": "b"}
    assert kernel.enabled("RD_ZSTD")
    assert not kernel.enabled("RD_XZ")


def test_an_unknown_configuration_forbids_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, RELEASE, {})
    assert find_kernel(RELEASE, tmp_path).enabled("RD_ZSTD")


def test_a_kernel_that_is_not_installed(tmp_path: Path) -> None:
    write_tree(tmp_path, RELEASE, {})
    with pytest.raises(
        KernelMissingError, match=rf"no modules of kernel 5\.4: name one with --kernel \(installed: {RELEASE}\)"
    ):
        find_kernel("5.4", tmp_path)
    with pytest.raises(KernelMissingError, match="is not in /boot or /lib/modules"):
        find_kernel(RELEASE, tmp_path).image()


@pytest.mark.parametrize("release", ["../etc", "/etc", "."])
def test_a_release_is_no_path(tmp_path: Path, release: str) -> None:
    with pytest.raises(KernelMissingError, match="not a kernel release"):
        find_kernel(release, tmp_path)
