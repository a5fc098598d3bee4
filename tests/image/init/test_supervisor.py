from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from netdump.client.delivery import LAST_ATTEMPT
from netdump.errors import (
    BundleError,
    CodecError,
    ConfigError,
    CoreError,
    DeadlineError,
    DeclinedError,
    ImpostorError,
    LocalProtocolError,
    RefusedError,
    SendError,
    UnreachableError,
)
from netdump.image.init import supervisor
from netdump.image.init.lease import NEVER
from netdump.image.init.plan import Save, Way, parse_plan
from netdump.image.init.restarts import CLIENT_GRACE, DEATHS_MAX, DOUBT_SECONDS, HOPELESS
from netdump.image.init.supervisor import (
    FAULTS_MAX,
    LEFT_BEHIND_MAX,
    NETWORK_SECONDS,
    PREPARATIONS_MAX,
    RENEWAL_PAUSE,
    STILL_SECONDS,
    TERM_SECONDS,
    Ended,
    Supervisor,
    System,
    read_plan,
)
from tests.image.init.machine import Child, Machine, run

if TYPE_CHECKING:
    from pathlib import Path

SIGKILLED = -9


def test_a_delivered_dump(said: list[str]) -> None:
    machine = run(Machine(client=[Child(0, 30)]), final="poweroff")
    assert machine.started == ["prepare", "network", "client", "finish poweroff"]
    assert machine.keys == [b"o"]  # finish came back, so the kernel is asked directly
    assert "its peak memory was 23.0 MiB, the least free memory 40.0 MiB" in "".join(said)
    assert machine.watchdog.pets > 100
    assert machine.watchdog.released  # after a power-off nothing shall start the machine again


def test_a_killed_client_starts_again(said: list[str]) -> None:
    machine = run(Machine(client=[Child(SIGKILLED, 5), Child(SIGKILLED, 5), Child(0, 5)]))
    assert machine.started.count("client") == 3
    assert machine.started[-1] == "finish reboot"
    assert machine.started[-2] == "client"
    assert any("by signal 9" in line for line in said)
    assert not machine.watchdog.released  # a reboot that hangs is ended by the hardware


@pytest.mark.parametrize("status", [1, LocalProtocolError.exit_status, CodecError.exit_status])
def test_a_client_that_cannot_live_is_given_up(said: list[str], status: int) -> None:
    machine = run(Machine(client=[Child(status, 1) for _ in range(99)]), failure="halt")
    assert machine.started.count("client") == DEATHS_MAX
    assert machine.started[-1] == "finish halt"


@pytest.mark.parametrize("per_second", [4 << 10, 100 << 10])
def test_nor_is_it_kept_by_what_every_life_sends_anew(said: list[str], per_second: int) -> None:
    """Handshakes that add up, and a headline that is larger than what counts as movement."""
    machine = Machine(client=[Child(SIGKILLED, 5) for _ in range(99)])
    machine.per_second = per_second
    run(machine)
    assert machine.started.count("client") == DEATHS_MAX
    assert "the client ended 20 times without getting on" in said


@pytest.mark.parametrize("error", [SendError, UnreachableError])
def test_a_collector_that_fails_for_most_of_the_deadline(said: list[str], error: type[SendError]) -> None:
    """Its lives are short, for it answers `internal` at once; it is not asked all the time meanwhile."""
    machine = Machine(client=[Child(error.exit_status, 6) for _ in range(48)] + [Child(0, 6)])
    run(machine)
    assert machine.started[-1] == "finish reboot"
    assert machine.started[-2] == "client"
    assert 2800 < machine.now < 3600
    assert said.count("trying again in 60 s") == 42
    assert machine.watchdog.pets > 4 * machine.now


def test_a_collector_that_fails_until_the_deadline(said: list[str]) -> None:
    machine = run(Machine(client=[Child(SendError.exit_status, 6) for _ in range(999)]), failure="halt")
    assert machine.started.count("client") < 3600 / 60 + 10
    assert machine.now < 3600 + TERM_SECONDS + 1
    assert machine.started[-1] == "finish halt"


def test_who_got_on_is_tried_again_at_once(said: list[str]) -> None:
    machine = Machine(client=[Child(SendError.exit_status, 6) for _ in range(50)] + [Child(0, 6)])
    machine.per_second = 1 << 20
    run(machine)
    assert machine.now < 51 * (6 + 2)


def test_deaths_among_failures_of_the_collector_count(said: list[str]) -> None:
    """What kills the client does so whenever the collector takes the dump."""
    failed, dead = Child(SendError.exit_status, 1), Child(SIGKILLED, 1)
    machine = run(Machine(client=[failed, *[dead] * 10, failed, *[dead] * 99]), failure="halt")
    assert machine.started.count("client") == 2 + DEATHS_MAX
    assert machine.now < 120


def test_one_that_moves_bytes_between_its_deaths_is_not(said: list[str]) -> None:
    machine = Machine(client=[Child(SIGKILLED, 5) for _ in range(50)] + [Child(0, 5)])
    machine.per_second = 1 << 20
    run(machine)
    assert machine.started.count("client") == 51


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (CoreError, True), (ConfigError, True), (BundleError, True), (DeclinedError, True),
        (ImpostorError, False), (RefusedError, False), (UnreachableError, False),
    ],
)  # fmt: skip
def test_which_ends_are_final(error: type[CoreError], hopeless: bool, said: list[str]) -> None:
    assert (error.exit_status in HOPELESS) == hopeless
    machine = run(Machine(client=[Child(error.exit_status, 1), Child(0, 1)]), failure="halt")
    assert machine.started.count("client") == (1 if hopeless else 2)
    assert machine.started[-1] == ("finish halt" if hopeless else "finish reboot")


def test_a_client_that_is_to_come_back_after_the_deadline(said: list[str]) -> None:
    """Of a thousand hosts in a queue each would ask twenty times in its last minute."""
    machine = run(Machine(client=[Child(DeadlineError.exit_status, 550)]), deadline=600.0, failure="halt")
    assert machine.started.count("client") == 1
    assert "trying again is of no use" in said
    assert machine.started[-1] == "finish halt"


def test_what_is_left_after_the_deadline_of_the_client_is_used(said: list[str]) -> None:
    late = 600 - CLIENT_GRACE - LAST_ATTEMPT - 0.5
    machine = run(Machine(client=[Child(DeadlineError.exit_status, late), Child(0, 1)]), deadline=600.0, failure="halt")
    assert machine.started.count("client") == 2
    assert machine.started[-1] == "finish reboot"


@pytest.mark.parametrize("error", [ImpostorError, RefusedError])
def test_who_stays_doubtful_is_given_up_before_long(error: type[CoreError], said: list[str]) -> None:
    """An address that two machines claim may be the collector's again soon; a revoked host stays refused."""
    machine = run(Machine(client=[Child(error.exit_status, 1) for _ in range(99)]), failure="halt")
    assert 5 < machine.started.count("client") < DEATHS_MAX  # with growing pauses
    assert DOUBT_SECONDS <= machine.now < DOUBT_SECONDS + 30
    assert machine.started[-1] == "finish halt"
    assert "trying again is of no use" in said


def test_doubts_do_not_add_up(said: list[str]) -> None:
    doubtful, away = ImpostorError.exit_status, UnreachableError.exit_status
    machine = run(Machine(client=[Child(doubtful, 170), Child(away, 60), Child(doubtful, 170), Child(0, 1)]))
    assert machine.started[-2:] == ["client", "finish reboot"]


def test_who_got_on_doubts_anew(said: list[str]) -> None:
    """The second machine with the collector's address comes again, long after most of the dump was sent."""
    machine = Machine(client=[Child(ImpostorError.exit_status, 600) for _ in range(3)] + [Child(0, 5)])
    machine.per_second = 1 << 20
    run(machine, failure="halt")
    assert machine.started[-1] == "finish reboot"


def test_the_deadline_is_held_outside_the_client(said: list[str]) -> None:
    machine = run(Machine(client=[Child(None)]), deadline=600.0, failure="poweroff")
    client = machine.children[machine.started.index("client")]
    assert client.signals == [15]
    assert 600 <= machine.now < 700
    assert machine.started[-1] == "finish poweroff"
    assert "the deadline of 600 s has passed" in said


def test_what_cannot_be_killed_is_left_behind(said: list[str]) -> None:
    machine = run(Machine(prepare=[Child(None, stubborn=True)], client=[Child(0, 1)]))
    assert machine.children[0].signals == [15, 9]
    assert "prepare does not end: leaving it behind" in said
    assert machine.started[-1] == "finish reboot"


def test_a_driver_that_hangs_keeps_no_other_from_being_loaded(said: list[str]) -> None:
    machine = run(Machine(prepare=[Child(None, stubborn=True), Child(None), Child(0, 2)], client=[Child(0, 1)]))
    assert machine.started == ["prepare"] * 3 + ["network", "client", "finish reboot"]
    assert said.count("prepare hung") == 2
    endless = run(Machine(prepare=[Child(None) for _ in range(99)], client=[Child(0, 1)]))
    assert endless.started.count("prepare") == PREPARATIONS_MAX
    assert endless.started[-1] == "finish reboot"


@pytest.mark.parametrize("seconds", [60.0, 200.0, 300.0])
def test_drivers_that_hang_do_not_outlast_the_deadline(said: list[str], seconds: float) -> None:
    hung = [Child(None, stubborn=True) for _ in range(9)]
    machine = run(Machine(prepare=hung), deadline=seconds, failure="poweroff")
    assert "client" not in machine.started
    assert machine.started[-1] == "finish poweroff"
    assert machine.now < seconds + 3 * TERM_SECONDS + 2  # for SIGTERM, SIGKILL and, at the end, sysrq


def test_a_network_that_hangs_begins_with_the_next_way(said: list[str]) -> None:
    ways = (Way("eth0", "dhcp"), Way("eth1", "dhcp"))
    machine = run(Machine(network=[Child(None), Child(1, 1), Child(None), Child(0)], client=[Child(0, 1)]), ways=ways)
    assert machine.started[1:5] == ["network", "network 1", "network 1", "network 2"]
    assert machine.now < 2 * (NETWORK_SECONDS * 3 + 10) + 10  # as much time for each way, and once more


def test_nor_does_one_that_cannot_be_killed_keep_the_next_way_waiting(said: list[str]) -> None:
    ways = (Way("eth0", "dhcp"), Way("eth1", "dhcp"))
    machine = run(Machine(network=[Child(None, stubborn=True), Child(0)], client=[Child(0, 1)]), ways=ways)
    assert machine.started == ["prepare", "network", "network 1", "client", "finish reboot"]
    assert not any("the init itself failed" in line for line in said)


def count(machine: Machine, stage: str) -> int:
    return sum(words.split()[0] == stage for words in machine.started)


def stuck(seconds: float) -> list[Child]:
    """No signal ends them: they wait in the kernel, for a lock that a driver holds."""
    return [Child(1, seconds, stubborn=True) for _ in range(99)]


def test_those_that_hang_in_the_kernel_do_not_take_all_memory(said: list[str]) -> None:
    """Each holds some mebibytes, and what would have saved the dump is killed for want of them."""
    away = Child(UnreachableError.exit_status, 9999)
    machine = run(
        Machine(network=stuck(1e9), client=[away], save=[Child(0, 20)]), save=Save("ext4", "0" * 32, "/crash")
    )
    assert count(machine, "network") == LEFT_BEHIND_MAX
    assert machine.started[-3:] == ["client", "save", "finish reboot"]
    assert 3600 <= machine.now < 3700


def test_when_they_end_others_are_started(said: list[str]) -> None:
    network = [*stuck(2000)[:LEFT_BEHIND_MAX], Child(0, 1)]
    machine = run(Machine(network=network, client=[Child(0, 2500)]))
    assert machine.started[-2:] == [f"network {LEFT_BEHIND_MAX}", "finish reboot"]
    beside = machine.children[1 + LEFT_BEHIND_MAX + 1]
    assert beside.ends_at > 2000


def test_nor_do_those_beside_the_client(said: list[str]) -> None:
    machine = run(Machine(network=[Child(0), *stuck(1e9)], client=[Child(0, 3000)]))
    assert count(machine, "network") == 1 + LEFT_BEHIND_MAX
    assert machine.started[-1] == "finish reboot"


def test_the_client_ends_by_itself_before_it_must(said: list[str]) -> None:
    machine = run(Machine(prepare=[Child(0, 100)], client=[Child(0, 1)]), deadline=600.0)
    command = machine.commands[machine.started.index("client")]
    assert float(command[command.index("--deadline") + 1]) == pytest.approx(500 - CLIENT_GRACE, abs=2)


def test_the_kernel_command_line_sets_the_deadline(said: list[str]) -> None:
    machine = Machine(prepare=[Child(0, 20)], network=[Child(1, 1)] * 100)
    machine.words = {"deadline": 100.0}
    run(machine, deadline=3600.0)
    assert "the deadline of 100 s has passed" in said
    assert machine.now == pytest.approx(100, abs=10)  # from the start of the init


def test_no_network_until_the_deadline(said: list[str]) -> None:
    machine = run(Machine(network=[Child(1, 3) for _ in range(999)]), deadline=300.0)
    assert "client" not in machine.started
    assert 5 < machine.started.count("network") < 30  # with growing pauses
    assert 300 <= machine.now < 400


@pytest.mark.parametrize("status", [0, 1, None])
def test_saving_after_the_deadline(said: list[str], status: int | None) -> None:
    machine = Machine(client=[Child(None)], save=[Child(status, 20)])
    run(machine, deadline=100.0, save=Save("ext4", "0" * 32, "/crash"), save_deadline=200.0)
    assert machine.started[-2:] == ["save", "finish reboot"]
    assert machine.now < 400


def test_the_network_is_looked_at_when_nothing_moves(said: list[str]) -> None:
    machine = run(Machine(client=[Child(0, 150)]))
    assert machine.started.count("network") == 3  # once before, twice in 150 s beside the client
    moving = Machine(client=[Child(0, 150)])
    moving.per_second = 1 << 20
    assert run(moving).started.count("network") == 1


def test_a_client_that_ends_while_the_network_is_looked_at(said: list[str]) -> None:
    """Nobody waits for the network then; nor is its end taken for the client's."""
    machine = run(Machine(network=[Child(0), Child(1, 500)], client=[Child(0, 80)]))
    assert machine.started == ["prepare", "network", "client", "network", "finish reboot"]
    assert machine.children[3].signals == [9]
    assert 80 < machine.now < 100


def test_a_look_at_the_network_that_hangs(said: list[str]) -> None:
    machine = run(Machine(network=[Child(0), Child(None)], client=[Child(0, 400)]))
    assert machine.children[3].signals == [9]
    assert count(machine, "network") == 5  # before, at 60 s until 180, and after 60 s more each time


def test_a_look_at_the_network_begins_with_the_way_that_works(said: list[str]) -> None:
    """It would hang like the one before the client, and mend nothing."""
    ways = (Way("eth0", "dhcp"), Way("eth1", "dhcp"))
    machine = run(Machine(network=[Child(None), Child(0), Child(0)], client=[Child(0, 80)]), ways=ways)
    assert machine.started[1:] == ["network", "network 1", "client", "network 1", "finish reboot"]


def test_after_one_that_hung_with_the_next(said: list[str]) -> None:
    ways = (Way("eth0", "dhcp"), Way("eth1", "dhcp"))
    machine = run(Machine(network=[Child(0), Child(None), Child(0)], client=[Child(0, 600)]), ways=ways)
    assert machine.started[1:5] == ["network", "client", "network", "network 1"]


def test_a_lease_is_renewed_beside_the_client(said: list[str]) -> None:
    machine = Machine(client=[Child(0, 1000)], renew=[Child(0, 1), Child(1, 1)])
    machine.renewals = [300.0, 600.0, 800.0]
    machine.per_second = 1 << 20
    run(machine)
    assert machine.started == ["prepare", "network", "client", *["renew"] * 3, "finish reboot"]
    assert 1000 <= machine.now < 1030


def test_a_renewal_that_hangs_is_ended_and_tried_again(said: list[str]) -> None:
    machine = Machine(client=[Child(0, 350)], renew=[Child(None)])
    machine.renewals = [100.0, 100.0]
    machine.per_second = 1 << 20
    run(machine)
    assert machine.children[machine.started.index("renew")].signals == [9]
    assert machine.started.count("renew") == 2  # at 100 s, killed at 220, again at 240
    assert machine.started[-1] == "finish reboot"


def test_what_went_wrong_goes_with_the_dump(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "notes", lambda: ["module x.ko does not load: why", "eth0 (dhcp): no carrier"])
    machine = run(Machine(client=[Child(0, 1)]))
    command = machine.commands[machine.started.index("client")]
    assert command[-2:] == ["--circumstances", "module x.ko does not load: why; eth0 (dhcp): no carrier"]


def test_a_child_that_cannot_be_started(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()

    def refuse(_: list[str]) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(machine, "spawn", refuse)
    run(machine, deadline=100.0)
    assert machine.keys == [b"b"]
    assert "cannot start prepare: Cannot allocate memory" in said
    assert machine.now < 200


@pytest.mark.parametrize(
    ("stage", "starts", "pause"),
    [("renew", True, RENEWAL_PAUSE), ("renew", False, STILL_SECONDS), ("network", False, STILL_SECONDS)],
)
def test_what_cannot_help_the_client_is_not_tried_all_the_time(
    said: list[str], monkeypatch: pytest.MonkeyPatch, stage: str, starts: bool, pause: float
) -> None:
    """No memory for it beside the client, or a lease whose time has come and that nobody renews."""
    machine, spawn, tried = Machine(client=[Child(0, 400)]), Machine.spawn, []

    def start(command: list[str]) -> int:
        if "client" in machine.started and stage in command:
            tried.append(machine.now)
            if not starts:
                raise OSError(12, "Cannot allocate memory")
        return spawn(machine, command)

    monkeypatch.setattr(machine, "spawn", start)
    monkeypatch.setattr(machine, "renewal_time", lambda: 0.0 if stage == "renew" else NEVER)
    run(machine)
    assert len(tried) > 2
    assert all(later - earlier >= pause for earlier, later in itertools.pairwise(tried))
    assert machine.started[-1] == "finish reboot"


def test_even_a_bug_brings_the_machine_back(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(Supervisor, "_network_seconds", lambda _: 1 / 0)
    run(machine, failure="poweroff", save=Save("ext4", "0" * 32, "/crash"))
    assert machine.started[-2:] == ["save", "finish poweroff"]  # nor does it cost the dump
    assert said.count("the init itself failed: ZeroDivisionError: division by zero") == FAULTS_MAX


@pytest.mark.parametrize("call", ["heed", "open_watchdog"])
def test_a_bug_at_the_start_does_not_cost_the_delivery(
    said: list[str], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    machine = Machine()
    monkeypatch.setattr(machine, call, lambda _: 1 / 0)
    run(machine)
    assert machine.started[-2:] == ["client", "finish reboot"]


def test_a_bug_while_saving(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(client=[Child(20, 1)])
    monkeypatch.setattr(Supervisor, "_save", lambda _: 1 / 0)
    run(machine, failure="poweroff", save=Save("ext4", "0" * 32, "/crash"))
    assert machine.started[-1] == "finish poweroff"
    assert "the init itself failed: ZeroDivisionError: division by zero" in said


def test_a_shell_and_then_a_reboot(said: list[str]) -> None:
    machine = run(Machine(client=[Child(20, 1)], sh=[Child(0, 5000)]), failure="shell")
    assert machine.started[-2:] == ["sh", "finish reboot"]
    assert machine.watchdog.released


def test_a_damaged_plan(said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.write_text("nonsense")
    ends: list[str] = []
    monkeypatch.setattr(supervisor, "read_plan", lambda: parse_plan(path.read_text()))
    monkeypatch.setattr(Supervisor, "_end", lambda _, action: ends.append(action))
    assert supervisor.supervise() == 1
    assert ends == ["reboot"]
    assert said[0].startswith("cannot use the plan: /etc/netdump/plan does not begin with")
    path.write_bytes(b"\xff")
    monkeypatch.setattr(supervisor, "read_plan", lambda: read_plan(str(path)))
    assert supervisor.supervise() == 1
    assert ends == ["reboot", "reboot"]


def test_the_real_system(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System()
    waited = wait(system, system.spawn([sys.executable, "-c", "import sys; sys.exit(7)"]))
    assert waited.status == 7
    assert waited.peak_kib > 4 << 10
    sleeper = system.spawn([sys.executable, "-c", "import time; time.sleep(99)"])
    assert system.reap(sleeper) is None
    system.kill(sleeper, 9)
    assert wait(system, sleeper).status == -9
    system.kill(sleeper, 9)  # too late, and no harm
    assert system.free_kib() < 1 << 40
    assert system.sent_bytes() >= 0
    assert os.path.exists("/proc/net/dev")


def test_several_children_of_the_real_system() -> None:
    """Waiting for one does not lose how another ended."""
    system = System()
    quick = system.spawn([sys.executable, "-c", "import sys; sys.exit(5)"])
    slow = system.spawn([sys.executable, "-c", "import time; time.sleep(99)"])
    ended = os.waitid(os.P_PID, quick, os.WEXITED | os.WNOWAIT)  # it has, and nobody has collected it yet
    assert ended is not None
    assert system.reap(slow) is None
    collected = system.reap(quick)
    assert collected is not None
    assert collected.status == 5
    system.kill(slow, 9)
    assert wait(system, slow).status == -9
    assert system.reap(slow) == Ended(None, 0)  # told already


def wait(system: System, child: int) -> Ended:
    limit = time.monotonic() + 20
    while (ended := system.reap(child)) is None:
        assert time.monotonic() < limit
        system.sleep(0.01)
    return ended


CALLS = ("spawn", "reap", "kill", "sleep", "free_kib", "sent_bytes", "renewal_time", "open_watchdog", "shell_command")


@pytest.mark.parametrize("failure", ["reboot", "shell"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("first", [0, 1, 3, 60])
def test_whatever_fails_the_machine_comes_back(
    said: list[str], monkeypatch: pytest.MonkeyPatch, failure: str, call: str, first: int
) -> None:
    """From its first, second ... use on, a call of the system fails, with an error that nobody thought of."""
    machine = Machine(client=[Child(20, 30)], network=[Child(0, 1)])
    real, used = getattr(machine, call), [0]

    def fail(*words: object) -> object:
        used[0] += 1
        if used[0] > first and (call, machine.keys) != ("sleep", [b"b"]):  # nothing is left to be done then
            raise MemoryError
        return real(*words)

    monkeypatch.setattr(machine, call, fail)
    run(machine, failure=failure, deadline=100.0, save=Save("ext4", "0" * 32, "/crash"))
    assert machine.keys == [b"b"]


def test_a_fault_of_the_init_costs_one_client(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, not left beside the next one."""
    machine = Machine(client=[Child(None), Child(0, 30)])
    faults = iter([ValueError("once")])

    def free_kib() -> int:
        if machine.now > 5 and (fault := next(faults, None)):
            raise fault
        return 40 << 10

    monkeypatch.setattr(machine, "free_kib", free_kib)
    run(machine)
    assert machine.started == ["prepare", "network", "client", "network", "client", "finish reboot"]
    assert machine.children[2].signals == [supervisor.SIGKILL]
    assert "the init itself failed: ValueError: once" in said


def test_nor_is_what_runs_beside_the_client_left(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages would set up one network."""
    machine = Machine(network=[Child(0), Child(None), Child(0)], client=[Child(None), Child(0, 30)])
    faults = iter([ValueError("once")])

    def free_kib() -> int:
        if machine.started[-2:] == ["client", "network"] and (fault := next(faults, None)):
            raise fault
        return 40 << 10

    spawn, before = machine.spawn, []

    def spawning(command: list[str]) -> int:
        before.append([each.signals[:] for each in machine.children])
        return spawn(command)

    monkeypatch.setattr(machine, "free_kib", free_kib)
    monkeypatch.setattr(machine, "spawn", spawning)
    run(machine)
    assert machine.started == ["prepare", "network", "client", "network", "network", "client", "finish reboot"]
    assert before[4] == [[], [], [supervisor.SIGKILL], [supervisor.SIGKILL]]
    assert "the init itself failed: ValueError: once" in said
