"""What people use today, in the same guest: a capture kernel that runs `makedumpfile -F -l -d 31 | ssh`.

Owns its image: busybox, makedumpfile, OpenSSH's client, the same kernel modules. It sends to an sshd on this machine's
loopback with keys that are thrown away.
"""

from __future__ import annotations

import getpass
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.process import Place
from bench.sshd import ssh_server
from netdump.image.compression import compress
from netdump.image.kmodules import ModuleTree
from tests.e2e import vm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.image.kernel import Kernel

LEVEL = 9  # of the image's compression, as netdump's by default
# Samples what is free and how large the two processes are while they run. VmHWM: the largest resident set until now.
INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
say() {{ echo "<4>peer: $*" > /dev/kmsg; }}
for module in {modules}; do insmod /lib/modules/$module.ko; done
ip link set lo up
{network}
{{ makedumpfile -F -l -d 31 /proc/vmcore; echo $? > /status; }} 2> /messages |
    ssh -q -i /root/client -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {user}@{host} \\
        'cat > {target}.incomplete && mv {target}.incomplete {target}' &
pipe=$!
least=99999999; dump=0; ssh=0
while [ -d /proc/$pipe ]; do
    while read -r name value _; do
        case $name in MemAvailable:) [ "$value" -lt "$least" ] && least=$value ;; esac
    done < /proc/meminfo
    for status in /proc/[0-9]*/status; do
        name=
        while read -r key value _; do case $key in
            Name:) name=$value ;;
            VmHWM:) case $name in
                makedumpfile) [ "$value" -gt "$dump" ] && dump=$value ;;
                ssh) [ "$value" -gt "$ssh" ] && ssh=$value ;;
            esac ;;
        esac; done < $status
    done 2> /dev/null
    usleep 200000
done
tail -n 3 /messages > /dev/console
say "status $(cat /status) makedumpfile $dump KiB ssh $ssh KiB least free $least KiB"
poweroff -f
"""


class Peer(NamedTuple):
    """image: compressed. target: the file that a dump becomes."""

    image: bytes
    target: Path


@contextmanager
def running_peer(kernel: Kernel, folder: Path) -> Iterator[Peer]:
    """Run the sshd for as long as the block runs."""
    with ssh_server(folder / "ssh", "127.0.0.1", Place(), Place()):
        address = re.search(r"ListenAddress .*:(\d+)", (folder / "ssh/sshd_config").read_text())
        assert address
        key, target = (folder / "ssh/client_key").read_bytes(), folder / "flattened"
        yield Peer(_build(kernel, key, int(address[1]), target), target)


def _build(kernel: Kernel, key: bytes, port: int, target: Path) -> bytes:
    archive = vm.skeleton()
    for name in ("busybox", "makedumpfile", "ssh"):
        path = shutil.which(name)
        assert path is not None, f"{name} is missing; ./run figures installs it"
        vm.add_program(archive, Path(path), f"bin/{name}")
    archive.add_file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.add_file("root/client", key, 0o600)
    tree = ModuleTree(kernel)
    modules = tree.load_order(("virtio_pci", "virtio_net"))
    for name in modules:
        archive.add_file(f"lib/modules/{name}.ko", tree.read(name).content)
    script = INIT.format(
        modules=" ".join(modules), network=vm.STATIC_NETWORK, port=port, host=vm.HOST, user=getpass.getuser(),
        target=target,
    )  # fmt: skip
    archive.add_file("init", script.encode(), 0o755)
    return compress("zstd", archive.pack(), LEVEL)
