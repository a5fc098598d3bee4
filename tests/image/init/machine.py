"""A machine for the init that is played: time passes in sleep only, children end as a script says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init.hardware import HardwareWatchdog
from netdump.image.init.lease import NEVER
from netdump.image.init.plan import Plan
from netdump.image.init.supervisor import (
    CLIENT,
    STAGE,
    Ended,
    Supervisor,
    System,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watchdog(HardwareWatchdog):
    def __init__(self) -> None:
        super().__init__(0)
        self.pets = 0
        self.released = False

    def pet(self) -> None:
        self.pets += 1

    def release(self) -> None:
        self.released = True


class Child:
    """status: None never ends; a dead one that ignores SIGKILL stays."""

    def __init__(self, status: int | None, seconds: float = 0.0, *, stubborn: bool = False) -> None:
        self.status = status
        self.seconds = seconds
        self.stubborn = stubborn
        self.signals: list[int] = []
        self.ends_at = 0.0


class Machine(System):
    """Time passes in sleep only. script: for each kind of child, how its runs end, one after the other."""

    def __init__(self, **script: list[Child]) -> None:
        super().__init__()
        self.now = 0.0
        self.script: dict[str, Iterator[Child]] = {name: iter(runs) for name, runs in script.items()}
        self.started: list[str] = []
        self.commands: list[list[str]] = []
        self.children: list[Child] = []
        self.watchdog = Watchdog()
        self.sent = 0
        self.per_second = 0
        self.keys: list[bytes] = []
        self.renewals: list[float] = []
        self.words: dict[str, object] = {}

    def spawn(self, command: list[str]) -> int:
        start = tuple(command[: len(STAGE)])
        words = command[len(STAGE) :] if start == STAGE else ["client"] if start == CLIENT else command
        name = words[0]
        self.commands.append(command)
        self.started.append(" ".join(words).removesuffix(" 0"))
        child = next(self.script.get(name, iter(())), Child(0))
        child.ends_at = self.now + child.seconds
        self.children.append(child)
        return len(self.children) - 1

    def reap(self, child: int) -> Ended | None:
        it = self.children[child]
        if it.signals and not it.stubborn:
            return Ended(-it.signals[-1], 0)
        if it.status is None or self.now < it.ends_at:
            return None
        return Ended(it.status, 23 << 10)

    def kill(self, child: int, number: int) -> None:
        self.children[child].signals.append(number)

    def heed(self, plan: Plan) -> Plan:
        return plan._replace(**self.words)  # type: ignore[arg-type]

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sent += int(self.per_second * seconds)

    def free_kib(self) -> int:
        return 40 << 10

    def sent_bytes(self) -> int:
        return self.sent

    def renewal_time(self) -> float:
        return self.renewals.pop(0) if self.renewals else NEVER

    def open_watchdog(self, seconds: int) -> HardwareWatchdog:
        return self.watchdog

    def shell_command(self) -> list[str]:
        return ["sh"]

    def sysrq(self, key: bytes) -> None:
        self.keys.append(key)


def run(machine: Machine, **plan: object) -> Machine:
    Supervisor(Plan(**plan), machine, lambda: machine.now).run()  # type: ignore[arg-type]
    return machine
