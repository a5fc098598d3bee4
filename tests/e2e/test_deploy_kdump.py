"""netdump as the dump target of a distribution's kdump: images by the real tools, and kernels that panic into them.

kdump-tools (Debian, Ubuntu) builds its image with our initramfs-tools hook; dracut (Fedora, RHEL, SUSE) builds one with
our module. In the guests nothing of netdump is installed: what sends comes out of those images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netdump.image.cpio import Archive
from tests.e2e import overlay, vm
from tests.e2e.rig import netdump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.kernel import Kernel

pytestmark = pytest.mark.e2e

SETTINGS = """\
NETDUMP_TREE_OPTIONS="--network '{device} 10.0.2.15/24 via 10.0.2.2' --add-driver virtio_pci --add-driver virtio_net \
--deadline 500 --final poweroff"
"""
KDUMP_IMAGE = f"/var/lib/kdump/initrd.img-{vm.RELEASE}"
DRACUT_IMAGE = "/boot/initramfs-kdump.img"
KDUMP_PRE = "/usr/lib/dracut/modules.d/99netdump/kdump-pre.sh"
MEMORY, RESERVED = "512M", "160M"  # at 384M a kernel in the middle (KASLR) may leave no 160M on either side
CRASH = """\
kexec -c -p /vmlinuz --initrd=/kdump.img --command-line='console=ttyS0 panic=1 net.ifnames=0 {words}' || exit
echo c > /proc/sysrq-trigger
"""
# What kdump-config 1.8.1 appends (KDUMP_CMDLINE_APPEND).
KDUMP_TOOLS_WORDS = "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb"


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return vm.kernel()


@pytest.fixture(scope="module")
def device() -> Path:
    """A network device of this machine. The images are made for it, so the guests get one with its address."""
    found = [path for path in sorted(Path("/sys/class/net").iterdir()) if (path / "device").exists()]
    if not found:
        pytest.skip("this machine has no network device to make an image for")
    return found[0]


@pytest.fixture(scope="module")
def settings(device: Path) -> str:
    return SETTINGS.format(device=device.name)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.GuestCollector]:
    running = vm.GuestCollector(tmp_path_factory.mktemp("kdump") / "collector")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def analyst(collector: vm.GuestCollector) -> Path:
    return collector.enroll("analyst", "ann")


def dumps(analyst: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(netdump("list", "--json", NETDUMP_CONFIG=str(analyst)).stdout)["dumps"]
    return found


@pytest.fixture(scope="module")
def copy(
    kernel: Kernel, collector: vm.GuestCollector, settings: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[overlay.Overlay]:
    """A copy of this machine with netdump, its hooks, a bundle and the guests' kernel."""
    overlay.needs("dracut", "mkinitramfs", "lsinitrd", "lsinitramfs", "linux-version")
    with overlay.Overlay() as copy:
        copy.install_netdump(tmp_path_factory.mktemp("wheel"))
        copy.bind(kernel.modules, f"/lib/modules/{vm.RELEASE}")
        for file in (kernel.root / "boot").iterdir():
            shutil.copy(file, copy.root / "boot")
        copy.run("sh", f"{overlay.PREFIX}/share/netdump/install.sh", "dracut", "initramfs-tools")
        bundle = collector.enroll("host", "crashy", f"{vm.HOST}:{collector.ingest.rpartition(':')[2]}")
        copy.write("/etc/netdump/client.toml", bundle.read_text(), 0o600)
        copy.write("/etc/default/netdump", settings)
        yield copy


@pytest.fixture(scope="module")
def kdump_image(copy: overlay.Overlay) -> Path:
    """As kdump-tools makes it when a kernel is installed."""
    package = Path(os.environ.get("NETDUMP_KDUMP_TOOLS", "/nonexistent"))
    if not package.is_file():
        pytest.skip("the package kdump-tools is not at hand (NETDUMP_KDUMP_TOOLS); ./run e2e fetches it")
    shutil.copy(package, copy.root / "tmp/kdump-tools.deb")
    copy.run("sh", "-c", "dpkg-deb --fsys-tarfile /tmp/kdump-tools.deb | tar -x --keep-directory-symlink -C /")
    # `dep`, which kdump-tools turns `most` into, asks for the disk of the root folder; the copy has none.
    copy.write("/etc/initramfs-tools/initramfs.conf", "MODULES=list\nBUSYBOX=auto\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n")
    copy.run("/etc/kernel/postinst.d/kdump-tools", vm.RELEASE)
    return copy.root / KDUMP_IMAGE.lstrip("/")


@pytest.fixture(scope="module")
def dracut_image(copy: overlay.Overlay) -> Path:
    """As kdumpctl calls dracut, without the modules that wait for disks."""
    options = ("--no-hostonly", "--no-kernel", "--modules", "base netdump", "--compress", "zstd -1")
    copy.run("dracut", "-f", *options, "--kver", vm.RELEASE, DRACUT_IMAGE, IN_KDUMP="1")
    return copy.root / DRACUT_IMAGE.lstrip("/")


def names(listing: str) -> set[str]:
    return {line.split(" -> ")[0].rsplit(" ", 1)[-1] for line in listing.splitlines()}


def check_contents(listing: str) -> None:
    """The client, its interpreter, the drivers, and a key that nobody else can read."""
    assert {
        "netdump/deliver",
        "netdump/usr/bin/python3",
        "netdump/etc/netdump/plan",
        "netdump/lib/modules/virtio_net.ko",
        "netdump/lib/modules/virtio_pci.ko",
    } <= names(listing)
    assert any(
        re.fullmatch(r"netdump/usr/lib/python3\.\d+/netdump/client/command\.pyc", name) for name in names(listing)
    )
    (key,) = (line for line in listing.splitlines() if line.endswith("netdump/etc/netdump/client.toml"))
    assert key.startswith("-rw-------")


def test_what_kdump_tools_builds(copy: overlay.Overlay, kdump_image: Path) -> None:
    check_contents(copy.run("lsinitramfs", "-l", KDUMP_IMAGE).stdout)
    assert "scripts/init-premount/netdump" in copy.run("lsinitramfs", KDUMP_IMAGE).stdout.splitlines()
    assert kdump_image.stat().st_mode & 0o777 == 0o600


def test_what_dracut_builds(copy: overlay.Overlay, dracut_image: Path) -> None:
    listing = copy.run("lsinitrd", DRACUT_IMAGE).stdout
    check_contents(listing)
    assert {KDUMP_PRE.lstrip("/"), "usr/sbin/chroot"} <= names(listing)
    # What the interpreter needs is in the tree, and not there again.
    assert not [name for name in names(listing) if "libpython" in name and not name.startswith("netdump/")]
    assert dracut_image.stat().st_mode & 0o777 == 0o600


def test_ordinary_images_hold_no_key(copy: overlay.Overlay, kdump_image: Path) -> None:
    """Nor does an image that would be readable by all, or whose target cannot be built."""
    copy.run("mkinitramfs", "-o", "/tmp/ordinary", vm.RELEASE)
    assert not any(name.startswith("netdump") for name in copy.run("lsinitramfs", "/tmp/ordinary").stdout.splitlines())
    options = ("--no-hostonly", "--no-kernel", "--compress", "zstd -1", "--kver", vm.RELEASE)
    copy.run("dracut", "-f", *options, "/tmp/ordinary.dracut")
    assert "netdump/" not in copy.run("lsinitrd", "/tmp/ordinary.dracut").stdout


@pytest.mark.parametrize("tool", ["dracut", "initramfs-tools"])
def test_what_cannot_be_built_fails_at_once(copy: overlay.Overlay, kdump_image: Path, settings: str, tool: str) -> None:
    copy.write("/etc/default/netdump", settings.replace("virtio_net", "virtio_absent"))
    before = kdump_image.read_bytes()
    try:
        if tool == "dracut":
            options = ("--no-hostonly", "--no-kernel", "--modules", "base netdump", "--kver", vm.RELEASE)
            done = copy.run("dracut", "-f", *options, "/tmp/broken", check=False, IN_KDUMP="1")
        else:
            config = ("-d", "/var/lib/kdump/initramfs-tools")
            done = copy.run("mkinitramfs", *config, "-o", "/tmp/broken", vm.RELEASE, check=False)
    finally:
        copy.write("/etc/default/netdump", settings)
    assert done.returncode != 0
    assert "has no module virtio_absent" in done.stderr
    assert not (copy.root / "tmp/broken").exists() or not (copy.root / "tmp/broken").stat().st_size
    assert kdump_image.read_bytes() == before


def crash_into(kernel: Kernel, image: Path, device: Path, folder: Path, words: str) -> str:
    """Boot a system that knows nothing but kexec, load the image as its kdump's, panic. Returns the console."""
    archive = Archive()
    for name in ("proc", "sys", "dev", "tmp", "root", "mnt"):
        archive.add_folder(name)
    for name, major, minor in (("console", 5, 1), ("null", 1, 3)):
        archive.add_device(f"dev/{name}", major, minor)
    for tool, target in (("busybox", "bin/busybox"), ("kexec", "usr/sbin/kexec")):
        path = vm.find(tool)
        assert path is not None
        vm.add_program(archive, Path(path), target)
    archive.add_link("bin/sh", "busybox")
    archive.add_file("vmlinuz", kernel.image().read_bytes())
    archive.add_file("kdump.img", image.read_bytes())
    archive.add_file("init", vm.INIT.format(modules="", script=CRASH.format(words=words)).encode(), 0o755)
    initrd = vm.write_initrd(folder / "initrd", [archive.pack()])
    command = vm.qemu(kernel, initrd, folder / "console", memory=MEMORY, append=f"crashkernel={RESERVED}")
    address = (device / "address").read_text().strip()
    with vm.Guest([word.replace(vm.MAC, address) for word in command], folder / "console") as guest:
        return guest.wait()


def test_a_panic_under_kdump_tools(
    kernel: Kernel, analyst: Path, kdump_image: Path, device: Path, tmp_path: Path
) -> None:
    console = crash_into(kernel, kdump_image, device, tmp_path, KDUMP_TOOLS_WORDS)
    (dump,) = dumps(analyst)
    assert (dump["state"], dump["host"], dump["kernel_release"]) == ("complete", "crashy", vm.RELEASE), console[-4000:]
    assert dump["panic"] == "Kernel panic - not syncing: sysrq triggered crash"
    assert "netdump-init: poweroff" in console
    assert "reboot: Power down" in console


def test_a_panic_under_dracut(kernel: Kernel, analyst: Path, dracut_image: Path, device: Path, tmp_path: Path) -> None:
    """kdump_pre as process 1, so that the kernel tells its exit status: 1, by which kdump-utils ends without a dump of
    its own.
    """
    before = {dump["id"] for dump in dumps(analyst)}
    console = crash_into(kernel, dracut_image, device, tmp_path, f"rdinit={KDUMP_PRE} nr_cpus=1 reset_devices")
    (dump,) = (dump for dump in dumps(analyst) if dump["id"] not in before)
    assert dump["state"] == "complete", console[-4000:]
    assert "Attempted to kill init! exitcode=0x00000100" in console
