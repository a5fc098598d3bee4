"""One machine for many crashes: booted, enrolled and armed once, with the commands that a user types; then its state is
kept, and every test goes on from there with a copy of it.

Owns that state, the collectors that its bundle names, and what tests type into its shell.
"""

from __future__ import annotations

import base64
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from netdump.image.cpio import Archive
from netdump.image.init.plan import Link, Module, Plan, Way, pack_plan
from netdump.image.kmodules import ModuleTree
from tests.e2e import vm
from tests.e2e.rig import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from netdump.image.kernel import Kernel

NODE = "crashy"
NONCE = "netdump crash test: last words 4711"
CAPTURE_TIMEOUT = 600.0  # seconds from the panic to the end of the machine; 20 to 30 are usual
BUNDLE = "root/client.toml"
DISK_BYTES = 512 << 20
KEXEC = """\
#!/bin/sh
for word; do case $word in
    /*) cp "$word" /tmp/kernel ;;
    --elf32*) echo "$word" > /root/options ;;
    --initrd=*) cp "${word#--initrd=}" /tmp/capture.img ;;
    --command-line=*) echo "${word#--command-line=}" > /root/command-line ;;
esac; done
exec /usr/sbin/kexec.real "$@"
"""  # keeps what `netdump arm` loads, for reload()
SCRIPT = f"""\
{vm.STATIC_NETWORK}
mv /usr/sbin/kexec /usr/sbin/kexec.real
cat > /usr/sbin/kexec <<'END'
{{kexec}}END
chmod 755 /usr/sbin/kexec; touch /root/options
{{enroll}}
netdump arm --config /{BUNDLE} --level 1 --final poweroff --failure reboot || exit
stty -echo < /dev/ttyS1
echo THE-GUEST-IS-ARMED
sh /dev/ttyS1
"""
RELOAD = """\
base64 -d > /tmp/overlay <<'END'
{overlay}
END
cat /tmp/capture.img /tmp/overlay > /tmp/other.img
words="$(cat /root/command-line) {words}"
kexec.real -c -p /tmp/kernel $(cat /root/options) --initrd=/tmp/other.img --command-line="$words" &&
    echo IT-IS-ARMED-ANEW"""


class Armed:
    """The state of an armed machine, whose bundle names two collectors, `first` and `second`; none is running.

    Tests make their own with the same certificates and addresses: collector(). console: until it was armed.
    root: of the guest. enrols_itself: its root has what that takes; else it finds its bundle.
    """

    def __init__(
        self, machine: vm.Machine, kernel: Kernel, root: bytes, folder: Path, *, enrols_itself: bool = True
    ) -> None:
        self.kernel = kernel
        self._machine = machine
        self._state = folder / "state"
        self._first = vm.GuestCollector(folder / "first")
        self._second = vm.GuestCollector(folder / "second", like=self._first)
        self._blank = make_disk(folder / "blank")
        try:
            for collector in (self._first, self._second):
                collector.start()  # the second one only to get its ports
            script = self._script(enrols_itself=enrols_itself)
            self._initrd = vm.write_initrd(folder / "initrd", [root, script])
            self._boot(folder / "console")
        finally:
            for collector in (self._first, self._second):
                if collector.process:
                    collector.stop()

    def _script(self, *, enrols_itself: bool) -> bytes:
        addresses = (self._first.guest_address, self._second.guest_address)
        files, enroll = {}, ""
        if enrols_itself:
            token = self._first.token("host", NODE)
            collectors = " ".join(f"--collector {each}" for each in addresses)
            words = f"{self._first.guest_url} --token {token} {collectors} --out /{BUNDLE}"
            enroll = f"netdump enroll {words} || exit"
        else:
            files[BUNDLE] = self._first.enroll("host", NODE, *addresses).read_bytes()
        script = SCRIPT.format(enroll=enroll, kexec=KEXEC)
        return vm.script_archive(self.kernel, script, files=files, modules=self._machine.loaded)

    def _boot(self, log: Path) -> None:
        with vm.Guest(self._command(log, self._blank), log) as guest:
            guest.wait_for("THE-GUEST-IS-ARMED")
            self.console = guest.console
            guest.monitor.execute("migrate", uri=f"exec:cat > {self._state}")
            wait_until(
                lambda: guest.monitor.execute("query-migrate").get("status") == "completed", "the state of the guest"
            )

    def collector(self, folder: Path, which: str = "first") -> vm.GuestCollector:
        """One of the two, empty, ready to start."""
        model = {"first": self._first, "second": self._second}[which]
        made = vm.GuestCollector(folder / which, like=self._first)
        made.ingest, made.api = model.ingest, model.api
        return made

    @contextmanager
    def running(self, folder: Path, which: str = "first") -> Iterator[vm.GuestCollector]:
        """The same, started, until the block ends."""
        made = self.collector(folder, which)
        made.start()
        try:
            yield made
        finally:
            made.stop()

    def resume(self, log: Path, disk: Path | None = None) -> vm.Guest:
        """The machine as it was when it was armed. disk: its /dev/vda, DISK_BYTES long."""
        guest = vm.Guest(self._command(log, disk or self._blank, "-incoming", f"exec:cat {self._state}"), log)
        try:
            wait_until(lambda: guest.monitor.execute("query-status")["status"] == "running", "the guest to go on")
        except BaseException:
            guest.end()
            raise
        return guest

    def reload(self, guest: vm.Guest, files: Mapping[str, bytes] | None = None, words: str = "") -> None:
        """Load the capture kernel again: with files in place of those of its image, and more words for the kernel."""
        overlay = Archive()
        for name, content in (files or {}).items():
            overlay.add_file(name, content, 0o755)
        text = base64.encodebytes(overlay.pack()).decode().strip()
        guest.type(RELOAD.format(overlay=text, words=words))
        guest.wait_for("IT-IS-ARMED-ANEW")

    def plan(self, *modules: str, **changes: Any) -> bytes:
        """The init's plan as it is in the image, but for some changes. modules: names of more, to be loaded first."""
        collectors = tuple((vm.HOST, int(each.ingest.rpartition(":")[2])) for each in (self._first, self._second))
        names = (*modules, *ModuleTree(self.kernel).load_order(("virtio_pci", "virtio_net")))
        as_armed = Plan(
            final="poweroff",
            modules=tuple(Module(f"/lib/modules/{name}.ko") for name in names),
            links=(Link("eth0", "ether", vm.MAC),),
            ways=(Way("eth0", "static", ("10.0.2.15/24",)),),
            collectors=collectors,
        )
        return pack_plan(as_armed._replace(**changes)).encode()

    def _command(self, log: Path, disk: Path, *more: str) -> list[str]:
        file = f"file={disk},file.locking=off,if=none,format=raw,id=d0"  # nobody writes to the blank one
        drive = ["-drive", file, "-device", "virtio-blk-pci,drive=d0"]
        machine = self._machine
        return vm.qemu(
            self.kernel, self._initrd, log, memory=machine.memory, append=machine.reserved, options=(*drive, *more),
            emulator=machine.emulator,
        )  # fmt: skip


def make_disk(path: Path, kind: str = "") -> Path:
    """An empty disk, with a file system on it if kind names one."""
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    if kind:
        subprocess.run([vm.find("mke2fs") or "mke2fs", "-q", "-t", kind, path], check=True)
    return path


def panic(guest: vm.Guest) -> None:
    """Crash it. Its kernel log ends with NONCE."""
    guest.type(f"echo '{NONCE}' > /dev/kmsg; echo c > /proc/sysrq-trigger")
    guest.wait_for("Kernel panic - not syncing: sysrq triggered crash")


def how_it_ended(guest: vm.Guest) -> str:
    """After it has: guest-shutdown for a power-off, guest-reset for a reboot, of QEMU's ShutdownCause."""
    reason: str = next(event for event in guest.monitor.events if event["event"] == "SHUTDOWN")["data"]["reason"]
    return reason


def wait_for_bytes(collector: vm.GuestCollector, guest: vm.Guest, count: int) -> None:
    """Until the collector has that many bytes of pages on disk, while the guest runs."""
    limit = time.monotonic() + CAPTURE_TIMEOUT
    while collector.held_bytes() < count:
        if not guest.runs or time.monotonic() > limit:
            pytest.fail(f"the collector never had {count} bytes:\n{guest.console[-4000:]}")
        time.sleep(0.01)
