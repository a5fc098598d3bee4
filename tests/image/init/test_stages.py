from __future__ import annotations

import pytest

from netdump.image.init import stages, supervisor
from netdump.image.init.plan import Plan


@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("prepare", "prepare.prepare"),
        ("network 3", "network.bring_up"),
        ("renew", "renewal.renew"),
        ("save", "save.save_image"),
    ],
)
def test_every_stage_gets_the_plan(stage: str, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, got = Plan(deadline=77), list[object]()

    def run(*words: object) -> int:
        got.extend(words)
        return 5

    monkeypatch.setattr(supervisor, "read_plan", lambda: plan)
    monkeypatch.setattr(f"netdump.image.init.{function}", run)
    assert stages.main(stage.split()) == 5
    assert got == ([plan, 3] if stage == "network 3" else [plan])


def test_finish_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.image.init.finish.finish", len)
    assert stages.main(["finish", "halt"]) == 4


def test_a_stage_that_fails_says_so_to_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr(stages, "warn", noted.append)
    monkeypatch.setattr(supervisor, "read_plan", lambda: Plan(deadline=77))

    def fail(*_: object) -> int:
        raise OSError(105, "No buffer space available")

    monkeypatch.setattr("netdump.image.init.network.bring_up", fail)
    assert stages.main(["network", "0"]) == 1
    assert noted == ["network failed: OSError: [Errno 105] No buffer space available"]
