from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.checkup.finding import State
from netdump.image.checkup.panics import (
    NOTIFIERS,
    TOPIC_NOTIFIERS,
    TOPIC_REBOOT,
    TOPIC_SYSRQ,
    TOPIC_TRIGGERS,
    check_panics,
)
from tests.image.checkup.machines import make

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sound_machine(tmp_path: Path) -> None:
    findings = {each.topic: each for each in check_panics(make(tmp_path))}
    assert {each.state for each in findings.values()} == {State.OK}
    assert findings[TOPIC_TRIGGERS].fact == "panic: an oops; no panic, so no dump: a hung task"
    assert findings[TOPIC_REBOOT].fact.startswith("after 10 s")
    assert "kernel.sysrq is 438" in findings[TOPIC_SYSRQ].fact
    assert TOPIC_NOTIFIERS not in findings


def test_a_machine_that_does_not_panic_and_hangs_if_it_does(tmp_path: Path) -> None:
    changes = {
        "proc/sys/kernel/panic": "0",
        "proc/sys/kernel/panic_on_oops": "0",
        NOTIFIERS: "Y",
        "proc/sysrq-trigger": None,
    }
    findings = {each.topic: each for each in check_panics(make(tmp_path, changes))}
    assert {each.state for each in findings.values()} == {State.WARNING}
    assert "kernel.panic_on_oops=1" in findings[TOPIC_TRIGGERS].remedy
    assert "kernel.panic=10" in findings[TOPIC_REBOOT].remedy
    assert len(findings) == 4


def test_a_machine_that_reboots_at_once(tmp_path: Path) -> None:
    findings = {each.topic: each for each in check_panics(make(tmp_path, {"proc/sys/kernel/panic": "-1"}))}
    assert findings[TOPIC_REBOOT].fact.startswith("at once, should the capture kernel not start")


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    names = ("panic", "panic_on_oops", "hung_task_panic")
    findings = list(check_panics(make(tmp_path, {f"proc/sys/kernel/{name}": None for name in names})))
    assert [each.topic for each in findings] == [TOPIC_TRIGGERS, TOPIC_SYSRQ]
    assert findings[0].fact == "not known to this kernel"
