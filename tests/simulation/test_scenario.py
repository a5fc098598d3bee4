"""The simulator is deterministic, its scenarios hold, and its eyes are open: broken collectors are found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netdump.pages import PageState
from netdump.server import arrival
from netdump.store import durable, writer
from netdump.wire import unpack_runs
from tests.crashes.broken_store import trust_a_second_sync
from tests.simulation import client as client_module
from tests.simulation import scenario
from tests.simulation.scenario import FAULTS, run
from tests.simulation.world import ViolationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.store.files import File, Files

SEEDS = range(250)  # for a fault that is rare; the campaign looks at 20,000 with every landing
ELSEWHERE = "from tests.simulation.scenario import run; print([run(seed).trace for seed in (3, 14, 15)])"


def test_scenarios_hold() -> None:
    runs = [run(seed) for seed in SEEDS[:100]]
    assert sum(each.acks for each in runs) > len(runs)
    assert sum(each.faults for each in runs) > len(runs)


def test_the_same_seed_is_the_same_run() -> None:
    runs = [run(seed) for seed in range(15)]
    assert runs == [run(seed) for seed in range(15)]
    assert len({each.trace for each in runs}) == 15


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_also_in_another_process(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={"PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str([run(seed).trace for seed in (3, 14, 15)]), done.stderr


def test_every_fault_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = set()

    def watched(name: str, fault: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def noting(scenario: Any) -> bool:
            done = fault(scenario)
            if done:
                happened.add(name)
            return done

        return noting

    monkeypatch.setattr(scenario, "FAULTS", {name: watched(name, fault) for name, fault in FAULTS.items()})
    for seed in SEEDS:
        run(seed)
        if happened == set(FAULTS):
            return
    assert happened == set(FAULTS)


# Broken on purpose. Each is a mistake that somebody could make; the simulator must see it within some seeds.


def found_out(seeds: int = 150) -> str:
    for seed in range(seeds):
        try:
            run(seed)
        except ViolationError as violation:
            return str(violation)
        except Exception as error:  # of the code itself, which finds what it has not stored
            return f"{type(error).__name__} {error}"
    return ""


def test_a_store_that_does_not_sync_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(files: Files, file: File, partial: str, name: str) -> None:
        file.close()
        files.rename(partial, name)
        files.sync_folder(name.rpartition("/")[0])

    monkeypatch.setattr(writer, "publish", publish)
    assert found_out()


def test_a_store_that_does_not_sync_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(files: Files, file: File, partial: str, name: str) -> None:
        file.sync()
        file.close()
        files.rename(partial, name)

    monkeypatch.setattr(writer, "publish", publish)
    assert "durable up to" in found_out()


def test_a_manifest_that_is_not_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(files: Files, name: str, data: bytes) -> None:
        durable.discard(files, name)
        file = files.create(name)
        file.write(data)
        file.close()

    monkeypatch.setattr(writer, "write_durably", write)
    assert found_out()


def test_a_collector_that_acknowledges_what_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    take = arrival.Arrival.take

    def hasty(self: arrival.Arrival, message: Any) -> None:
        take(self, message)
        if hasattr(message, "length"):
            self._line.acknowledge(message.offset + message.length)

    monkeypatch.setattr(arrival.Arrival, "take", hasty)
    assert "durable up to" in found_out()


def test_a_collector_that_trusts_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "_verify", lambda chunk: sum(run.length for run in _data_runs(chunk)))
    assert found_out(600)


def test_a_collector_that_keeps_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync it goes on with the same file, which looks as if it were whole."""
    trust_a_second_sync(monkeypatch)
    kinds = {name: FAULTS[name] for name in ("fail_disk", "cut_power")}
    monkeypatch.setattr(scenario, "FAULTS", kinds)
    assert found_out(800)


def test_a_client_that_forgets_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew one byte too far, with a digest of what it sends."""
    plan = client_module.SimulatedClient._plan

    def wrong(self: client_module.SimulatedClient, offset: int) -> Any:
        for planned in plan(self, offset):
            data = bytes(planned.data)
            yield planned._replace(data=memoryview(data[1:] + data[:1]))

    monkeypatch.setattr(client_module.SimulatedClient, "_plan", wrong)
    assert "not what the client has read" in found_out()


def _data_runs(chunk: Any) -> list[Any]:
    return [run for run in unpack_runs(chunk.table, chunk.offset, chunk.length) if run.state is PageState.DATA]
