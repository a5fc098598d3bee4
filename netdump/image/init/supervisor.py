"""Process 1 of the capture kernel: holds the deadline, and brings the machine back.

Owns the order of the stages, the absolute deadline, the hardware watchdog, and the ways to end. Does nothing by itself
that may hang: every stage is a child with a time limit, and a child that cannot even be killed is left behind. Imports
little, for it stays in memory beside the client.

    prepare -> [ network -> client ] until delivered, hopeless or late -> save, if not delivered -> finish

A stage that hung is run again, and goes on after what it hung at: prepare after that module, network after that way.
Beside the client runs network when nothing moves, and renew when a lease is half over.
"""

from __future__ import annotations

import os
import resource  # os.wait4 imports it by itself when it is first called: here the closure finds it
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from netdump.image.init.console import notes, say, warn
from netdump.image.init.hardware import HardwareWatchdog
from netdump.image.init.lease import NEVER, renewal_time
from netdump.image.init.plan import BUNDLE_PATH, PLAN_PATH, Plan, PlanError, parse_plan
from netdump.image.init.restarts import CLIENT_GRACE, Restarts
from netdump.image.init.words import heed
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# By -c, because -m would load runpy and importlib.util: 0.7 MiB of memory and more files in the image.
PYTHON = ("/usr/bin/python3", "-I", "-S", "-B", "-c")
CLIENT = (*PYTHON, "import sys; from netdump.client.__main__ import run; run(sys.argv[1:])")
STAGE = (*PYTHON, "import sys; from netdump.image.init.stages import main; sys.exit(main(sys.argv[1:]))")
SYSRQ = "/proc/sysrq-trigger"
SYSRQ_KEYS = {"reboot": b"b", "poweroff": b"o", "halt": b"o", "shell": b"b"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/sbin", "HOME": "/", "TERM": "linux", "MALLOC_ARENA_MAX": "1"}

SIGTERM, SIGKILL = 15, 9
PREPARE_SECONDS = 120.0
PREPARATIONS_MAX = 4  # as many drivers but one may hang
NETWORK_SECONDS = 120.0  # and as much again for each way
FINISH_SECONDS = 30.0
TERM_SECONDS = 5.0  # for a stage to end by itself after SIGTERM, and again after SIGKILL
LEFT_BEHIND_MAX = 3  # that do not end all the same, or one for each way: the kernel holds them up, and they keep 7 MiB
TICK = 0.2
PAUSE_MIN, PAUSE_MAX = 1.0, 30.0
FAULTS_MAX = 3  # of the init itself, before the failure action
MOVEMENT_BYTES = 1 << 16  # sent bytes that count as movement: more than attempts to connect make
STILL_SECONDS = 60.0  # without movement, after which the network is looked at again
TELL_SECONDS = 15.0  # between two lines of progress
RENEWAL_PAUSE = 20.0  # between two attempts to renew a lease; the shortest leases are renewed after 30


class Ended(NamedTuple):
    """How a child ended. status: as an exit status, negative for a signal, None if it had to be left behind.

    peak_kib: its largest resident set, but no less than process 1 had when it started it (Linux fs/exec.c, exec_mmap).
    """

    status: int | None
    peak_kib: int


def supervise() -> int:
    """Run as process 1. Returns only in tests: process 1 ends with the machine."""
    try:
        plan = read_plan()
    except (OSError, ValueError, PlanError) as error:
        say(f"cannot use the plan: {error}; the failure action follows")
        plan = Plan()
        Supervisor(plan).give_up()
        return 1
    Supervisor(plan).run()
    return 1


def read_plan(path: str = PLAN_PATH) -> Plan:
    """Read the plan of the image. Raises OSError, PlanError."""
    with open(path, encoding="utf-8") as file:
        return parse_plan(file.read())


class Supervisor:
    """One life of the capture kernel. System calls go through `system`, time through `clock`."""

    def __init__(self, plan: Plan, system: System | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._system = system or System()
        self._clock = clock
        self._started = clock()
        self._deadline = self._started + plan.deadline
        self._watchdog = HardwareWatchdog(0)
        self._least_free = 1 << 62
        self._hung_networks = 0
        self._left_behind: list[int] = []  # stages that were killed, and may not have ended
        self._beside: tuple[int, float, str] | None = None  # a stage while the client runs, its time limit and name
        self._renew_at = NEVER  # of time.monotonic
        self._moved_bytes = 0
        self._moved_at = self._tell_at = clock()

    def run(self) -> None:
        """Deliver the dump and end the machine, delivered or not."""
        self._attempt(self._start)
        delivered = None
        for _ in range(FAULTS_MAX):
            delivered = self._attempt(self._deliver)
            if delivered is not None:
                break
        if delivered:
            self._end(self._plan.final)
            return
        self._attempt(self._save)
        self.give_up()

    def _attempt(self, step: Callable[[], bool]) -> bool | None:
        """What a step returns; None if it failed by a fault of the init itself: the machine must come back."""
        try:
            return step()
        except Exception as error:  # whatever it is
            say(f"the init itself failed: {type(error).__name__}: {error}")
            return None

    def _start(self) -> bool:
        self._prepare()
        self._watchdog = self._system.open_watchdog(self._plan.watchdog)
        return True

    def give_up(self) -> None:
        """The failure action."""
        say(f"the dump is not delivered: {self._plan.failure} follows")
        self._end(self._plan.failure)

    def _prepare(self) -> None:
        for _ in range(PREPARATIONS_MAX):
            status = self._stage("prepare", min(PREPARE_SECONDS, self._left())).status
            self._plan = self._system.heed(self._plan)  # there is a command line from here on
            self._deadline = self._started + self._plan.deadline
            if self._left() <= 0 or (status is not None and status >= 0):
                break
        self._left_behind.clear()  # there are no more of these

    def _save(self) -> bool:
        if not self._plan.save:
            return False
        say("the dump is not delivered: saving it on this machine")
        return self._stage("save", self._plan.save_deadline).status == 0

    # Delivery

    def _deliver(self) -> bool:
        restarts, pause = Restarts(), PAUSE_MIN
        while self._left() > 0:
            crowded = self._is_crowded()  # then the client finds out by itself whether a collector can be reached
            status = 0 if crowded else self._network()
            if status != 0:
                self._hung_networks += status is None or status < 0
                self._wait(min(pause, self._left()))
                pause = min(PAUSE_MAX, 2 * pause)
                continue
            pause, before = PAUSE_MIN, self._system.sent_bytes()
            status = self._client().status
            if status == 0:
                return True
            if status is None or status < 0 or status == 1:  # the client explains the others itself
                warn(f"the client ended {_how(status)}")
            sent_bytes = abs(self._system.sent_bytes() - before)
            verdict = restarts.judge(status, sent_bytes, self._clock(), self._left())
            if verdict.remark:
                say(verdict.remark)
            if verdict.pause is None:
                return False
            self._wait(verdict.pause)
        say(f"the deadline of {self._plan.deadline:g} s has passed")
        return False

    def _network(self) -> int | None:
        return self._stage("network", self._network_seconds(), str(self._hung_networks)).status

    def _network_seconds(self) -> float:
        return min(NETWORK_SECONDS * (1 + len(self._plan.ways)), max(0.0, self._left()))

    def _client(self) -> Ended:
        seconds = max(5.0, self._left() - CLIENT_GRACE)
        # -q, because what matters goes to the kernel's log anyway, and a progress bar is nothing for a serial line.
        command = [*CLIENT, "-q", "--config", BUNDLE_PATH, "--deadline", f"{seconds:.0f}"]
        if noted := notes():
            command += ["--circumstances", "; ".join(noted)]
        self._moved_at = self._clock()
        self._tell_at = self._moved_at + TELL_SECONDS
        self._renew_at = self._system.renewal_time()
        try:
            ended = self._run("the client", command, self._left(), self._look_after_network)
        finally:
            self._kill_beside()
        say(
            f"the client ended {_how(ended.status)}; its peak memory was {ended.peak_kib / 1024:.1f} MiB, "
            f"the least free memory {self._least_free / 1024:.1f} MiB"
        )
        return ended

    def _look_after_network(self) -> None:
        """Beside the client: renew the lease in time, and if no bytes move, make the network work again. That changes
        nothing if it is not the network.
        """
        now = self._clock()
        sent = self._system.sent_bytes()
        if now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            say(f"{sent >> 20} MiB sent, {self._left():.0f} s left until the deadline")
        if abs(sent - self._moved_bytes) >= MOVEMENT_BYTES:
            self._moved_bytes, self._moved_at = sent, now
        if self._beside:
            self._look_beside(*self._beside, now)
        elif self._is_crowded():
            pass
        elif now >= self._renew_at:
            self._start_beside("renew")
        elif now - self._moved_at >= STILL_SECONDS:
            say(f"nothing was sent for {STILL_SECONDS:g} s: looking at the network")
            self._start_beside("network", str(self._hung_networks))

    def _start_beside(self, *stage: str) -> None:
        now = self._clock()
        try:
            self._beside = self._system.spawn([*STAGE, *stage]), now + self._network_seconds(), stage[0]
        except OSError as error:
            say(f"cannot start {stage[0]}: {error.strerror}")
            self._moved_at, self._renew_at = now, now + STILL_SECONDS

    def _look_beside(self, child: int, until: float, name: str, now: float) -> None:
        """Whether the stage beside the client has ended, or must."""
        if self._system.reap(child) is None:
            if now < until:
                return
            warn("looking at the network takes too long: signal 9")
            self._hung_networks += name == "network"
            self._kill_beside()
        self._beside, self._moved_at = None, now
        self._renew_at = max(self._system.renewal_time(), now + RENEWAL_PAUSE)

    def _kill_beside(self) -> None:
        if self._beside:
            self._system.kill(self._beside[0], SIGKILL)
            self._left_behind.append(self._beside[0])
            self._beside = None

    # Children

    def _stage(self, name: str, seconds: float, *words: str) -> Ended:
        ended = self._run(name, [*STAGE, name, *words], seconds)
        if ended.status:
            say(f"{name} ended {_how(ended.status)}")
        if ended.status is None or ended.status < 0:
            warn(f"{name} hung")
        return ended

    def _run(self, name: str, command: list[str], seconds: float, tick: Callable[[], None] | None = None) -> Ended:
        """Run a child to its end, or to its time limit, or to SIGKILL, or leave it behind."""
        try:
            child = self._system.spawn(command)
        except OSError as error:
            say(f"cannot start {name}: {error.strerror}")
            return Ended(1, 0)
        try:
            return self._wait_for(child, name, seconds, tick)
        except BaseException:
            self._system.kill(child, SIGKILL)  # or it would go on beside whatever comes next
            raise

    def _wait_for(self, child: int, name: str, seconds: float, tick: Callable[[], None] | None) -> Ended:
        limits = ((seconds, 0), (TERM_SECONDS, SIGTERM), (TERM_SECONDS, SIGKILL))
        for limit, number in limits:
            if number:
                say(f"{name} is late: signal {number}")
                self._system.kill(child, number)
            until = self._clock() + limit
            while True:
                ended = self._system.reap(child)
                if ended is not None:
                    return ended
                if self._clock() >= until:
                    break
                self._breathe()
                if tick and not number:
                    tick()
        say(f"{name} does not end: leaving it behind")
        self._left_behind.append(child)
        return Ended(None, 0)

    def _is_crowded(self) -> bool:
        """Whether as many children that were killed are still there as may be."""
        self._left_behind = [child for child in self._left_behind if self._system.reap(child) is None]
        return len(self._left_behind) >= max(LEFT_BEHIND_MAX, len(self._plan.ways))

    def _wait(self, seconds: float) -> None:
        until = self._clock() + seconds
        while self._clock() < until:
            self._breathe()

    def _breathe(self) -> None:
        """A moment of waiting: the machine is alive."""
        self._watchdog.pet()
        self._least_free = min(self._least_free, self._system.free_kib())
        self._system.sleep(TICK)

    def _left(self) -> float:
        return self._deadline - self._clock()

    # The end

    def _end(self, action: str) -> None:
        if action == "shell":
            self._attempt(self._shell)
            action = "reboot"
        say(f"{action}")
        if action != "reboot":
            self._watchdog.release()
        self._attempt(lambda: self._stage("finish", FINISH_SECONDS, action).status == 0)
        say(f"{action} has no effect: asking the kernel in another way")
        self._system.sysrq(SYSRQ_KEYS[action])
        self._system.sleep(TERM_SECONDS)  # process 1 ends now, which the kernel answers with panic=

    def _shell(self) -> bool:
        self._watchdog.release()
        command = self._system.shell_command()
        say(f"a shell as asked for: {' '.join(command)}; the machine reboots when it ends")
        if command:
            self._run("the shell", command, float("inf"))
        return bool(command)


class System:
    """What process 1 asks of the kernel. None of it waits for long."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._ended: dict[int, Ended] = {}  # those that nobody has asked about yet: several children run at a time

    def spawn(self, command: list[str]) -> int:
        """Start a program. Returns its process id. Raises OSError."""
        child = os.posix_spawn(command[0], command, ENVIRONMENT)
        self._running.add(child)
        return child

    def reap(self, child: int) -> Ended | None:
        """How child ended, told once; None while it runs. Collects orphans on the way."""
        with suppress(ChildProcessError):  # there is none at all
            while True:
                found, status, usage = os.wait4(-1, os.WNOHANG)
                if found == 0:
                    break
                assert isinstance(usage, resource.struct_rusage)
                if found in self._running:
                    self._running.remove(found)
                    self._ended[found] = Ended(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
        return self._ended.pop(child, None) or (None if child in self._running else Ended(None, 0))

    def kill(self, child: int, number: int) -> None:
        """Send a signal."""
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(child, number)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def free_kib(self) -> int:
        """MemAvailable of /proc/meminfo, in KiB."""
        try:
            with open("/proc/meminfo", "rb") as file:
                for line in file:
                    if line.startswith(b"MemAvailable:"):
                        return int(line.split()[1])
        except (OSError, ValueError):
            pass  # no /proc: nothing is known
        return 1 << 62

    def sent_bytes(self) -> int:
        """Bytes that all interfaces but the loopback have sent."""
        total = 0
        try:
            with open("/proc/net/dev", "rb") as file:
                for line in file:
                    name, colon, counters = line.partition(b":")
                    if colon and name.strip() != b"lo":
                        total += int(counters.split()[8])
        except (OSError, ValueError, IndexError):
            pass  # no /proc: nothing moves
        return total

    def heed(self, plan: Plan) -> Plan:
        """The plan as the kernel command line wants it."""
        return heed(plan)

    def renewal_time(self) -> float:
        """When the lease in use wants renewing."""
        return renewal_time()

    def open_watchdog(self, seconds: int) -> HardwareWatchdog:
        """The hardware watchdog."""
        return HardwareWatchdog(seconds)

    def shell_command(self) -> list[str]:
        """The command line of a shell."""
        from netdump.image.init.finish import shell_command  # noqa: PLC0415 - loads ctypes

        return shell_command()

    def sysrq(self, key: bytes) -> None:
        """Ask the kernel directly, without memory or other processes."""
        try:
            descriptor = os.open(SYSRQ, os.O_WRONLY)
            os.write(descriptor, key)
            os.close(descriptor)
        except OSError as error:
            say(f"{SYSRQ}: {error.strerror}")


def _how(status: int | None) -> str:
    if status is None:
        return "not at all"
    return f"by signal {-status}" if status < 0 else f"with status {status}"
