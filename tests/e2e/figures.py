"""Measures what docs/capture.md says, in the guest of the end-to-end tests: `./run figures`.

Owns the runs and their table: from the panic to the headline, to the complete dump and to the end of the machine; the
client's memory; the smallest crashkernel=; and makedumpfile with ssh in the same guest. Figures of a machine that does
other things beside are no figures: the load is printed with them.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.e2e import vm
from tests.e2e.armed import CAPTURE_TIMEOUT, DISK_BYTES, Armed, how_it_ended, panic
from tests.e2e.peer import running_peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.e2e.peer import Peer

STEP = 4
SMALLEST = 64
REPETITIONS = 3
RESERVE = """\
kexec.real -c -p -u
echo $(({mebibytes} << 20)) > /sys/kernel/kexec_crash_size
[ $(cat /sys/kernel/kexec_crash_size) -le $(({mebibytes} << 20)) ] || echo IT-WAS-NOT-SHRUNK"""


class Run(NamedTuple):
    """One crash. Times in seconds after the panic; None: that never came. ended: how. console: of the whole."""

    marks: Mapping[str, float | None]
    ended: str
    console: str

    def numbers(self, pattern: str) -> list[float]:
        return [float(number) for number in re.findall(pattern, self.console)]


def crash(guest: vm.Guest, marks: Mapping[str, Callable[[], bool]]) -> Run:
    """Panic, and note when each of marks became true."""
    panic(guest)
    started = time.monotonic()
    seen: dict[str, float | None] = dict.fromkeys(marks)
    while guest.runs and time.monotonic() < started + CAPTURE_TIMEOUT:
        for name, is_true in marks.items():
            if seen[name] is None and is_true():
                seen[name] = time.monotonic() - started
        time.sleep(0.01)
    if guest.runs:
        return Run({**seen, "end": None}, f"still running after {CAPTURE_TIMEOUT:g} s", guest.console)
    ended, console = time.monotonic() - started, guest.wait()
    return Run({**seen, "end": ended}, how_it_ended(guest), console)


def our_run(armed: Armed, folder: Path, mebibytes: int, words: str) -> Run:
    folder.mkdir()
    with armed.running(folder) as collector, armed.resume(folder / "console") as guest:

        def has(name: str) -> bool:
            return any(collector.folder.glob(f"dumps/*/{name}"))

        guest.type(RESERVE.format(mebibytes=mebibytes))
        armed.reload(guest, words=words)
        return crash(guest, {"headline": lambda: has("headline"), "complete": lambda: has("manifest.json")})


def peer_run(armed: Armed, peer: Peer, folder: Path, mebibytes: int) -> Run:
    folder.mkdir()
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.write(peer.image)
        file.truncate(DISK_BYTES)
    peer.target.unlink(missing_ok=True)
    with armed.resume(folder / "console", disk) as guest:
        guest.type(RESERVE.format(mebibytes=mebibytes))
        guest.type(f"head -c {len(peer.image)} /dev/vda > /tmp/capture.img")
        armed.reload(guest)
        return crash(guest, {"complete": peer.target.exists})


def smallest(run: Callable[[int], Run]) -> tuple[int, Run | None]:
    """The least memory with which a dump is complete, and what happened with the next less."""
    best = 0
    for mebibytes in range(vm.RESERVED, SMALLEST, -STEP):
        done = run(mebibytes)
        print(f"  crashkernel={mebibytes}M: {describe(done)}", flush=True)
        if done.marks["complete"] is None:
            return best, done
        best = mebibytes
    return best, None


def describe(run: Run) -> str:
    times = ", ".join(f"{name} {'never' if at is None else f'{at:.1f} s'}" for name, at in run.marks.items())
    memory = run.numbers(r"least free(?: memory)? ([0-9.]+) ")
    peak = run.numbers(r"its peak memory was ([0-9.]+) MiB")
    peers = re.findall(r"makedumpfile \d+ KiB ssh \d+ KiB", run.console)
    return f"{times} ({run.ended}); peak {peak or peers}, least free {memory}"


def main() -> None:
    kernel = vm.kernel()
    with tempfile.TemporaryDirectory(prefix="netdump-figures-") as name:
        folder = Path(name)
        print("booting, enrolling, arming a guest", flush=True)
        (folder / "armed").mkdir()
        armed = Armed(vm.X86_64, kernel, vm.build_root(kernel), folder / "armed")
        print(re.findall(r"Armed: .*|Memory: .*", armed.console), flush=True)
        (folder / "peer").mkdir()
        with running_peer(kernel, folder / "peer") as peer:
            print(f"the peer's image: {len(peer.image) / (1 << 20):.1f} MiB", flush=True)
            for number in range(REPETITIONS):
                for level in (31, 0):
                    done = our_run(armed, folder / f"ours-{level}-{number}", vm.RESERVED, f"netdump.level={level}")
                    print(f"netdump -d {level}, load {os.getloadavg()[0]:.1f}: {describe(done)}", flush=True)
                done = peer_run(armed, peer, folder / f"peer-{number}", vm.RESERVED)
                print(f"makedumpfile | ssh, load {os.getloadavg()[0]:.1f}: {describe(done)}", flush=True)
            print("the smallest reservation for netdump -d 31", flush=True)
            least, _ = smallest(lambda size: our_run(armed, folder / f"ours-{size}M", size, "netdump.level=31"))
            print(f"smallest: {least}M", flush=True)
            print("the smallest reservation for makedumpfile | ssh", flush=True)
            least, _ = smallest(lambda size: peer_run(armed, peer, folder / f"peer-{size}M", size))
            print(f"smallest: {least}M", flush=True)


if __name__ == "__main__":
    main()
