"""One transfer that is cut again and again, by seed, and what every cut costs.

Cuts: resets, ends, stalls, half-open lines, flipped bits, SIGKILL of either side. The line slices, delays, throttles.

The plan of cut N of a seed is always the same; what has arrived when the cut comes, the machine decides.
"""

from __future__ import annotations

import filecmp
import json
import re
import time
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from netdump.testing.elf_writer import Core, Load
from netdump.testing.fault_proxy import FaultProxy, Faults
from tests.e2e.rig import POLL_PERIOD, Collector, netdump, start

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MIB: Final = 1 << 20
RESENT_MAX: Final = 32 * MIB  # what is promised for each cut, with the default credit
OVERHEAD: Final = 1.02  # of TLS, run tables and the headline
CUT_SPAN: Final = 3 * MIB  # most connections live this long at most, in bytes on the wire
LONG_SPAN: Final = 40 * MIB  # and some so long that all of the credit can be lost
HANDSHAKE_BYTES: Final = 2500
SETTINGS: Final = {"ingest": {"keepalive_s": 1, "idle_s": 3}}
SEND: Final = "[send]\nretry_min = 0.05\nretry_max = 0.2\nstall_timeout = 1\npatience = 300\n[tls]"
KILLS: Final = ("client-killed", "collector-killed")
KINDS: Final = (
    "reset", "reset", "reset-by-collector", "refused", "end", "stall", "stall-of-collector", "half-open",
    "flip", "flip-by-collector", "flip-in-handshake", *KILLS, *KILLS,
)  # fmt: skip


class Cut(NamedTuple):
    """What ends one connection. at: bytes on the wire from the client, when it is killed or its collector is."""

    kind: str
    at: int
    faults: Faults


def draw(seed: int, number: int) -> Cut:
    """Cut `number` of a seed."""
    random = Random(f"cuts/{seed}/{number}")
    kind = random.choice(KINDS)
    at = random.randrange(random.choice((HANDSHAKE_BYTES, *[CUT_SPAN] * 18, LONG_SPAN)))
    down = random.randrange(6000)  # RESUME and ACKs are small; so many may not come before all is there
    line = Faults(
        slice_max=random.choice((None, None, 100_000, 1500)),
        rate=random.choice((None, None, 20e6, 4e6)),
        delay=random.choice((0.0, 0.0, 0.002, 0.02)),
    )
    return Cut(kind, at, _faults(kind, at, down, line))


def passes(seed: int, cuts: int) -> int:
    """The most that the plan of a seed lets through, bytes, in whole MiB: an image of that size meets all its cuts."""
    lines = [draw(seed, number).faults for number in range(cuts)]
    ends = [[line.cut_up, line.close_up, line.stall_up] for line in lines if not line.refuse]
    return -(-sum(min(end for end in each if end is not None) for each in ends) // MIB) * MIB


def _faults(kind: str, at: int, down: int, line: Faults) -> Faults:
    match kind:
        case "reset":
            return replace(line, cut_up=at)
        case "reset-by-collector":
            return replace(line, cut_down=down, cut_up=LONG_SPAN)
        case "refused":
            return replace(line, refuse=True)
        case "end":
            return replace(line, close_up=at)
        case "stall":
            return replace(line, stall_up=at)
        case "stall-of-collector":
            return replace(line, stall_down=down, cut_up=LONG_SPAN)
        case "half-open":
            return replace(line, stall_up=at, stall_down=down)
        case "flip":
            return replace(line, flip_up=at, cut_up=at + MIB)
        case "flip-by-collector":
            return replace(line, flip_down=down, cut_up=CUT_SPAN)
        case "flip-in-handshake":
            place, answer = at % HANDSHAKE_BYTES, down % HANDSHAKE_BYTES
            return replace(line, flip_up=place, flip_down=answer, cut_up=CUT_SPAN)
        case _:
            return replace(line, stall_up=at)  # until the kill comes, which takes its time on a busy machine


@dataclass
class Account:
    """What a transfer came to. resent: bytes sent again, for each stretch between two answers that said where to go on.

    cuts: by kind.
    """

    cuts: dict[str, int]
    resent: list[int]
    seconds: float
    connections: int

    @property
    def worst(self) -> int:
        return max(self.resent, default=0)


class Ordeal:
    """A collector, a host, the line between them, and the cuts."""

    def __init__(self, folder: Path, seed: int, cuts: int) -> None:
        self.seed, self.cuts = seed, cuts
        self.collector = Collector(folder / "collector")
        config = self.collector.folder / "config.toml"
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for section, values in SETTINGS.items()
        )
        config.write_text(text)
        self.collector.start()
        host, _, port = self.collector.ingest.rpartition(":")
        self.proxy = FaultProxy((host, int(port)), self._plan, seed)
        self.proxy.start()
        self.bundle = self.collector.enroll("host", "crashy", f"127.0.0.1:{self.proxy.address[1]}")
        self.bundle.write_text(re.sub(r"\[tls\]", SEND, self.bundle.read_text(), count=1))
        self.log = folder / "send.log"
        self._plans: list[tuple[float, Cut | None]] = []
        self._client: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End everything."""
        if self._client is not None and self._client.poll() is None:
            self._client.kill()
            self._client.wait()
        self.proxy.stop()
        self.collector.stop()

    def send(self, core: Path, timeout: float) -> Account:
        """Send a core through all cuts. Fails if it is not done by then, or the client gives up."""
        begun = time.monotonic()
        self._start_client(core)
        killed = -1
        while (status := self._running()) is None:
            assert time.monotonic() - begun < timeout, f"not done after {timeout} s: {self._where()}"
            number = len(self.proxy.passages) - 1
            cut = self._plans[number][1] if number >= 0 else None
            if number > killed and cut is not None and cut.kind in KILLS and self.proxy.passages[number].up >= cut.at:
                killed = number
                self._kill(cut.kind, core)
            time.sleep(POLL_PERIOD)
        assert status == 0, f"the client ended with {status}: {self._where()}"
        return self._account(time.monotonic() - begun)

    def assert_exact(self, core: Path, target: Path) -> None:
        """One complete dump, byte for byte the core, found sound by `netdump verify`."""
        (dump,) = self.collector.dumps()
        assert dump["state"] == "complete"
        netdump("verify", dump["id"], "--root", self.collector.folder)
        netdump("fetch", dump["id"], "-o", target, "--root", self.collector.folder)
        assert filecmp.cmp(target, core, shallow=False)
        target.unlink()

    def _plan(self, number: int) -> Faults:
        """The faults of a connection. Called by the proxy as it comes in."""
        cut = draw(self.seed, number) if number < self.cuts else None
        self._plans.append((time.time(), cut))
        return Faults() if cut is None else cut.faults

    def _start_client(self, core: Path) -> None:
        with self.log.open("a") as log:
            self._client = start("send", core, "--config", self.bundle, stdout=log, stderr=log)

    def _running(self) -> int | None:
        assert self._client is not None
        return self._client.poll()

    def _kill(self, kind: str, core: Path) -> None:
        if kind == "collector-killed":
            self.collector.kill()
            self.proxy.cut_all()
            self.collector.start()
            return
        assert self._client is not None
        self._client.kill()
        self._client.wait()
        self._start_client(core)

    def _where(self) -> str:
        number = len(self._plans) - 1
        return f"seed {self.seed}, connection {number}, {self._plans[-1][1]}: {self.log.read_text()[-1500:]}"

    def _account(self, seconds: float) -> Account:
        plans = [cut for _, cut in self._plans]
        cuts: dict[str, int] = {}
        for cut in plans:
            if cut is not None:
                cuts[cut.kind] = cuts.get(cut.kind, 0) + 1
        return Account(cuts, self._resent(), seconds, len(plans))

    def _resent(self) -> list[int]:
        """For each answer of the collector: what was sent since, less what had become durable by the next answer.

        The image of an ordeal does not compress, so bytes on the wire are bytes of image but for OVERHEAD.
        """
        up = [int(passage.up / OVERHEAD) for passage in self.proxy.passages]
        begins = [moment for moment, _ in self._plans]
        offsets: dict[int, int] = {}
        for line in self.collector.log_lines():
            event = json.loads(line)
            if event["event"] == "dump-arrives":
                moment = datetime.fromisoformat(event["time"]).timestamp()
                number = sum(begin <= moment for begin in begins) - 1
                offsets[number] = event["offset"]
                size = event["size"]
        stops = sorted(offsets.items())
        moves = [*pairwise(stops), (stops[-1], (len(up), size))]
        return [max(0, sum(up[first:last]) - (after - before)) for (first, before), (last, after) in moves]


def write_core(path: Path, size_bytes: int, seed: int) -> None:
    """A core that does not compress."""
    random = Random(seed)
    with path.open("wb") as file:
        Core([Load(0x100000, size_bytes, {0: random.randbytes(4096)})]).write(path)
        first = path.stat().st_size - size_bytes
        file.seek(first)
        for at in range(0, size_bytes, MIB):
            file.write(random.randbytes(min(MIB, size_bytes - at)))
