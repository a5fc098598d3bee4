"""The sender under duress: whatever happens around it, it delivers, or gives up by its deadline plus five seconds.

A host that never reboots is the worst outcome.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import pytest

from netdump import errors
from netdump.testing.elf_writer import Core, Load, counter_pages
from netdump.testing.lossy_line import FAR, LineUnavailableError, LossyLine
from netdump.wire import Ack, Defer, Error, ErrorCode, Resume, pack
from tests.client.certificates import Authority, server_context
from tests.client.collector import FakeCollector, Manners, unanswered
from tests.e2e.cuts import write_core
from tests.e2e.rig import Collector, netdump

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

MIB = 1 << 20
DEADLINE = 4
GRACE = 5
BUDGET_BYTES = 32 * MIB
LOSSY_CORE_BYTES = 384 * 1024
AT_ONCE = 5  # senders that mostly wait
PLACES = ("tcp", "tls", "hello", "resume", "headline", "chunk:1", "chunk:3", "finish")
CORE = Core([Load(0x100000, 0x400000, {0: counter_pages(1, 1024)})])
CORE_BYTES = len(CORE.build())


class Host:
    """A host with settings, and a collector in this process that has its manners. said: by its sender."""

    def __init__(self, folder: Path, manners: Manners | None, settings: str = "") -> None:
        self.said = ""
        authority = Authority()
        self.collector: FakeCollector | None = None
        address = "127.0.0.1:1"
        if manners is not None:
            context = server_context(folder, authority.collector(), authority)
            self.collector = FakeCollector(context, lambda _: manners)
            address = str(self.collector.address)
        pair = authority.host()
        self.bundle = folder / "client.toml"
        self.bundle.write_text(
            f'version = 1\nname = "web1"\nrole = "host"\ncollectors = ["{address}"]\n'
            f"[send]\nretry_min = 0.1\nretry_max = 0.5\n{settings}\n"
            f"[tls]\nca = '''\n{authority.certificate}'''\n"
            f"certificate = '''\n{pair.certificate}'''\nkey = '''\n{pair.key}'''\n"
        )
        self.bundle.chmod(0o600)


@contextmanager
def hosts(folder: Path, manners: dict[str, Manners | None], settings: str = "") -> Iterator[dict[str, Host]]:
    """A host for each of these."""
    made: dict[str, Host] = {}
    try:
        for name, how in manners.items():
            (folder / name).mkdir()
            made[name] = Host(folder / name, how, settings)
        yield made
    finally:
        for host in made.values():
            if host.collector is not None:
                host.collector.stop()


def all_end_in_time(core: Path, made: dict[str, Host]) -> dict[str, int]:
    """The exit statuses of senders, none of which may take longer than promised. Some run at the same time."""
    statuses: dict[str, int] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, (status, seconds) in zip(made, pool.map(lambda host: send(core, host), made.values()), strict=True):
            assert seconds < DEADLINE + GRACE, f"{name}: ended {seconds:.1f} s after its start, deadline {DEADLINE} s"
            statuses[name] = status
    return statuses


def send(core: Path, host: Host) -> tuple[int, float]:
    """Run a sender as the capture image starts it: its exit status, and how long it took."""
    status, seconds, host.said = timed(sender(core, host))
    assert host.said.startswith("netdump: dump "), host.said
    return status, seconds


def sender(core: Path, host: Host) -> list[str | Path]:
    """The command."""
    return [sys.executable, "-m", "netdump.client", core, "--config", host.bundle, "--deadline", str(DEADLINE)]


def timed(command: list[str | Path]) -> tuple[int, float, str]:
    """Run a sender: its exit status, the seconds from its first line to its end, and what it said.

    The first line comes when it has read core and settings; its own clock runs since just before that. What this
    machine takes to start a process is so left out, however busy it is.
    """
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        last_resort = Timer(20 * DEADLINE, process.kill)
        last_resort.start()
        said = process.stderr.readline()
        begun = time.monotonic()
        said += process.stderr.read()
        status = process.wait()
        seconds = time.monotonic() - begun
        last_resort.cancel()
    return status, seconds, said


HANGS: dict[str, Manners | None] = {
    "nobody": None,
    **{f"hangs-at-{place.replace(':', '-')}": Manners(hang=place) for place in PLACES},
    **{f"mute-at-{place.replace(':', '-')}": Manners(mute=place) for place in ("resume", "chunk:1", "finish")},
    "half-an-answer": Manners(answer=pack(Resume(0, bytes(32), 0, False, 4 * MIB, 1, 3))[:-1]),
    "always-defers": Manners(answer=Defer(1)),
    "defers-for-long": Manners(answer=Defer(3600)),
    "always-lets-go": Manners(answer=Error(ErrorCode.STORAGE)),
    "acknowledges-nothing": Manners(ack=False),
    "takes-no-pages": Manners(credit=0),
    "acknowledges-late": Manners(slow=60),
}

LIES: dict[str, Manners | None] = {
    # As bytes: the wire core of the collector would not say it.
    "begins-beyond-the-image": Manners(answer=pack(Resume(CORE_BYTES + 1, bytes(32), 9, False, 4 * MIB, 1, 3))),
    "begins-with-another-chain": Manners(alter=lambda resume: resume._replace(offset=4096, chunks=1, chain=bytes(32))),
    "acknowledges-what-was-never-sent": Manners(retort=(1, pack(Ack(1 << 45)))),
    "goes-back": Manners(retort=(2, pack(Ack(0)))),
    "acknowledges-half-a-chunk": Manners(retort=(1, pack(Ack(4095)))),
}
# What the sender says to that, where it can know.
SEEN = {
    "begins-beyond-the-image": f"RESUME at {CORE_BYTES + 1}, beyond the image",
    "acknowledges-what-was-never-sent": f"image offset {1 << 45} is not the end of an unacknowledged chunk",
    "goes-back": "image offset 0 is not the end of an unacknowledged chunk",
    "acknowledges-half-a-chunk": "image offset 4095 is not the end of an unacknowledged chunk",
}


def test_a_collector_that_hangs_in_any_state(tmp_path: Path) -> None:
    core = tmp_path / "core"
    CORE.write(core)
    with hosts(tmp_path, HANGS) as made:
        statuses = all_end_in_time(core, made)
    assert set(statuses.values()) <= {errors.DeadlineError.exit_status, errors.UnreachableError.exit_status}, statuses


def test_a_collector_whose_machine_is_gone(tmp_path: Path) -> None:
    """Nobody says so: what is sent to its address is dropped."""
    core = tmp_path / "core"
    CORE.write(core)
    host = Host(tmp_path, None)
    with unanswered() as address:
        host.bundle.write_text(re.sub(r"collectors = .*", f'collectors = ["{address}"]', host.bundle.read_text()))
        status, seconds = send(core, host)
    assert status in {errors.DeadlineError.exit_status, errors.UnreachableError.exit_status}
    assert seconds < DEADLINE + GRACE


def test_a_collector_that_lies_about_offsets(tmp_path: Path) -> None:
    """It cannot make the host believe in a dump that is not there, nor keep it."""
    core = tmp_path / "core"
    CORE.write(core)
    with hosts(tmp_path, LIES) as made:
        statuses = all_end_in_time(core, made)
        for name, status in statuses.items():
            collector = made[name].collector
            assert collector is not None
            assert status in {0, errors.DeadlineError.exit_status, errors.RemoteProtocolError.exit_status}, name
            # Not by what the collector heard: a reset, for what it sent meanwhile, overtakes it.
            assert SEEN.get(name, "") in made[name].said, f"{name}: {made[name].said}"
            if status == 0:  # a lie in mid-stream is survived: what came before it is acknowledged
                kept = collector.only()
                assert kept.complete, name
                assert bytes(kept.image) == core.read_bytes(), name


def test_a_name_server_that_never_answers(tmp_path: Path) -> None:
    """In a namespace of its own, whose only name server is an address at which nobody is."""
    core = tmp_path / "core"
    CORE.write(core)
    host = Host(tmp_path, None)
    host.bundle.write_text(re.sub(r"collectors = .*", 'collectors = ["collector.example"]', host.bundle.read_text()))
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\noptions timeout:30 attempts:5\n")
    script = (
        "ip link add void type veth peer name hole\n"
        "ip addr add 192.0.2.1/24 dev void\nip link set hole up\nip link set void arp off up\n"
        f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf\nexec "$@"'
    )
    status, seconds, said = timed(["unshare", "--net", "--mount", "sh", "-ec", script, "sh", *sender(core, host)])
    if "unshare:" in said or "RTNETLINK" in said or said.startswith("Error: ") or "mount:" in said:
        pytest.skip(f"no namespaces here: {said}")
    assert status == errors.DeadlineError.exit_status, said
    assert said.startswith("netdump: dump "), said
    assert "collector.example" in said
    assert seconds < DEADLINE + GRACE


@pytest.mark.parametrize("moment", ["1970-01-02 00:00:00", "2100-01-01 00:00:00"])
def test_any_clock(collector: Collector, sample: Path, tmp_path: Path, moment: str) -> None:
    """The clock of a capture kernel may say anything: the dump is delivered, and stamped with the collector's time."""
    bundle = collector.enroll("host", "clockless")
    environment = {**os.environ, "DONT_FAKE_MONOTONIC": "1"}
    done = subprocess.run(
        ["faketime", moment, sys.executable, "-m", "netdump", "send", sample, "--config", bundle, "--deadline", "60"],
        capture_output=True, text=True, env=environment, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (dump,) = collector.dumps()
    assert dump["state"] == "complete"
    assert abs(time.time() - time.mktime(time.strptime(dump["first_seen"], "%Y-%m-%dT%H:%M:%SZ"))) < 2 * 86_400


@pytest.mark.parametrize("moment", ["1975-01-01 00:00:00", "2099-01-01 00:00:00"])
def test_any_clock_of_the_collector(tmp_path: Path, moment: str) -> None:
    """A collector without a battery says so, in its log and to systemd, and loses no dump for it."""
    core = tmp_path / "core"
    CORE.write(core)
    collector = Collector(tmp_path / "collector").start()
    bundle = collector.enroll("host", "punctual")
    collector.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        clock = ["env", "DONT_FAKE_MONOTONIC=1", f"NOTIFY_SOCKET={tmp_path}/notify", "faketime", moment]
        collector.start([*clock, "setpriv", "--pdeathsig", "TERM"])  # faketime passes no signal on
        try:
            told = manager.recv(4096).decode()
            done = netdump("send", core, "--config", bundle, "--deadline", "60", check=False)
        finally:
            collector.stop()
    assert told.startswith(f"READY=1\nSTATUS=THE CLOCK IS WRONG: this clock says {moment[:4]}-")
    (event,) = (line for line in map(json.loads, collector.log_lines()) if line["event"] == "clock-wrong")
    assert "the collector's authority" in event["reason"]
    assert done.returncode == 0, done.stderr
    (dump,) = collector.dumps()
    assert dump["state"] == "complete"


def test_five_percent_loss_and_200_ms(tmp_path: Path) -> None:
    """A line as bad as they come: slow, but the dump gets through."""
    core = tmp_path / "core"
    write_core(core, LOSSY_CORE_BYTES, seed=5)
    try:
        with LossyLine(loss=0.05, delay_s=0.1, seed=5) as line:
            collector = Collector(tmp_path / "collector", names=f"localhost,127.0.0.1,{FAR}").start()
            bundle = collector.enroll("host", "remote", f"{FAR}:7461")
            collector.stop()
            collector.ingest = f"{FAR}:7461"
            collector.start(line.inside(near=False))
            try:
                done = subprocess.run(
                    [*line.inside(near=True), sys.executable, "-m", "netdump", "send", core, "--config", bundle],
                    capture_output=True, text=True, timeout=300,
                )  # fmt: skip
            finally:
                collector.stop()
            assert line.lost > 10
    except LineUnavailableError as reason:
        pytest.skip(str(reason))
    assert done.returncode == 0, done.stderr
    (dump,) = collector.dumps()
    assert dump["state"] == "complete"
    target = tmp_path / "fetched"
    netdump("fetch", dump["id"], "-o", target, "--root", collector.folder)
    assert filecmp.cmp(target, core, shallow=False)


def test_with_no_more_memory_than_its_budget(collector: Collector, whole_core: Path) -> None:
    """In a cgroup whose limit is the budget, page cache and socket buffers included."""
    bundle = collector.enroll("host", "tight")
    bundle.write_text(re.sub(r"\[tls\]", "[send]\nthreads = 1\n[tls]", bundle.read_text(), count=1))
    with memory_group(BUDGET_BYTES) as group:
        done = subprocess.run(
            [
                "sh", "-ec", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh",
                sys.executable, "-m", "netdump.client", whole_core, "--config", bundle, "-d", "31", "--deadline", "120",
            ],
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    (dump,) = collector.dumps()
    assert dump["state"] == "complete"


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A memory cgroup of either version; skips where none can be made."""
    roots = [(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")]
    for root, name in roots:
        group = root / f"netdump-duress-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit_bytes))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip("no memory cgroup can be made here")
