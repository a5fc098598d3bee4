from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

import pytest

from netdump.codec import Compressor
from netdump.errors import DriverError
from netdump.image.kernel import find_kernel
from netdump.image.kmodules import ModuleTree, module_name
from tests.image.modules import kernel_module, write_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RELEASE = "6.1.0-test"
TREE = {
    "virtio_ring": (),
    "virtio": ("virtio_ring",),
    "virtio-pci": ("virtio_ring", "virtio"),
    "failover": (),
    "net_failover": ("failover",),
    "virtio_net": ("net_failover", "virtio_ring", "virtio", "failover"),
    "crc_helper": (),
    "late_helper": (),
}
SOFT = "# comment\nsoftdep virtio_net pre: crc-helper nowhere post: late-helper\n"


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    write_tree(tmp_path, RELEASE, TREE, SOFT, "kernel/net/packet/af_packet.ko\n")
    return ModuleTree(find_kernel(RELEASE, tmp_path))


def test_what_a_module_needs_is_loaded_before_it(tree: ModuleTree) -> None:
    order = tree.load_order(["virtio_pci", "virtio-net"])
    assert len(order) == len(set(order))
    for name, needs in TREE.items():
        if module_name(name) in order:
            assert all(order.index(need) < order.index(module_name(name)) for need in needs)
    assert order.index("crc_helper") < order.index("virtio_net") < order.index("late_helper")


def test_what_a_module_wants_by_the_name_that_others_give_themselves(tmp_path: Path) -> None:
    """As file systems want a checksum, one each line; where it is built in, what is there besides."""
    softdep = "softdep ext4 pre: sha256\nsoftdep ext4 pre: crypto-crc32c\nsoftdep ext4 post: fs-helper nobody\n"
    alias = "# comment\nalias crypto-crc32c crc32c_intel\nalias crypto_crc32c crc32c-generic\nalias fs-helper gone\n"
    modules = {"crc32c-intel": (), "crc32c_generic": (), "ext4": ("jbd2",), "jbd2": (), "sha256": ()}
    write_tree(tmp_path, RELEASE, modules, softdep, alias=alias)
    order = ModuleTree(find_kernel(RELEASE, tmp_path)).load_order(["ext4"])
    assert order == ["sha256", "crc32c_intel", "crc32c_generic", "jbd2", "ext4"]


def test_the_firmware_of_what_is_built_in(tree: ModuleTree, tmp_path: Path) -> None:
    assert tree.builtin_firmware("bnx2") == (), "a kernel before 5.2"
    told = b"bnx2x.firmware=no\0bnx2.license=GPL\0bnx2.firmware=bnx2/a.fw\0bnx2.firmware=bnx2/b.fw\0"
    (tmp_path / "lib/modules" / RELEASE / "modules.builtin.modinfo").write_bytes(told)
    assert tree.builtin_firmware("bnx2") == ("bnx2/a.fw", "bnx2/b.fw")


def test_what_is_built_in_is_not_loaded(tree: ModuleTree) -> None:
    assert tree.load_order(["af_packet"]) == []
    assert tree.is_builtin("af-packet")
    assert "af_packet" in tree


def test_a_missing_module_is_named(tree: ModuleTree) -> None:
    with pytest.raises(DriverError, match=r"no module mlx5_core: run `depmod 6\.1\.0-test`"):
        tree.load_order(["mlx5_core"])


def test_a_circle_ends(tmp_path: Path) -> None:
    write_tree(tmp_path, RELEASE, {"a": ("b",), "b": ("a",)})
    assert sorted(ModuleTree(find_kernel(RELEASE, tmp_path)).load_order(["a"])) == ["a", "b"]


def test_without_depmod(tmp_path: Path) -> None:
    (tmp_path / "lib/modules" / RELEASE).mkdir(parents=True)
    with pytest.raises(DriverError, match=r"modules\.dep is missing: run `depmod"):
        ModuleTree(find_kernel(RELEASE, tmp_path))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_compressed_modules(tmp_path: Path, suffix: str) -> None:
    write_tree(tmp_path, RELEASE, {"a": ()})
    folder = tmp_path / "lib/modules" / RELEASE
    raw = kernel_module({"name": "a"}, ["a/fw.bin"])
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
    pack = packers.get(suffix, Compressor(3).compress if suffix else bytes)
    (folder / "kernel/a.ko").unlink()
    (folder / f"kernel/a.ko{suffix}").write_bytes(pack(raw))
    (folder / "modules.dep").write_text(f"kernel/a.ko{suffix}:\n")
    module = ModuleTree(find_kernel(RELEASE, tmp_path)).read("a")
    assert (module.content, module.firmware, module.target) == (raw, ("a/fw.bin",), "lib/modules/a.ko")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".xz", b"junk"),
        (".zst", b"junk"),
        (".gz", b"junk"),
        (".gz", gzip.compress(b"", mtime=0)[:10] + b"\xff"),
        ("", b"junk"),
    ],
)
def test_damaged_modules(tmp_path: Path, suffix: str, content: bytes) -> None:
    write_tree(tmp_path, RELEASE, {"a": ()})
    folder = tmp_path / "lib/modules" / RELEASE
    (folder / f"kernel/a.ko{suffix}").write_bytes(content)
    (folder / "modules.dep").write_text(f"kernel/a.ko{suffix}:\n")
    with pytest.raises(DriverError, match=r"install kernel 6\.1\.0-test again"):
        ModuleTree(find_kernel(RELEASE, tmp_path)).read("a")
