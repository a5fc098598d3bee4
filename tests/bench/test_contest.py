from __future__ import annotations

from typing import TYPE_CHECKING, cast

from bench.contest import HOPELESS, Contestant, Outcome, Result, hold
from bench.process import ANYWHERE, Cost, Launcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def result(name: str, *seconds: float, ours: bool = False) -> Result:
    return Result(name, ours, [Cost(one, one, 1) for one in seconds])


class Watch:
    """Plays the launcher: argv[0] is how long it takes."""

    def measure(self, argv: Sequence[str], _place: object) -> Cost:
        return Cost(float(argv[0]), 0, 1)


def contestant(name: str, seconds: float, *, ours: bool = False) -> Contestant:
    return Contestant(name, ANYWHERE, lambda: [str(seconds)], lambda: 7, ours)


def test_the_ratio_pairs_rounds_so_that_a_slow_round_of_both_cancels_out() -> None:
    outcome = Outcome("key", "title", [result("ours", 1, 10, 1, ours=True), result("theirs", 2, 20, 2)])
    assert outcome.ratio == 0.5
    assert outcome.best_peer.name == "theirs"


def test_who_is_hopelessly_slow_leaves_and_the_others_go_on() -> None:
    slow, quick = contestant("slow", HOPELESS * 2), contestant("quick", 1)
    ours = contestant("ours", HOPELESS * 3, ours=True)
    outcome = hold("key", "title", [ours, slow, quick], cast("Launcher", Watch()), rounds=5, say=lambda _: None)
    assert [len(one.costs) for one in outcome.results] == [5, 2, 5]
    assert outcome.results[1].wire_bytes == 7


def test_the_launcher_measures_a_real_program(tmp_path: Path) -> None:
    with Launcher(tmp_path / "log") as launcher:
        cost = launcher.measure(["sh", "-c", "echo out; echo err >&2; sleep 0.05"], ANYWHERE)
        assert 0.05 <= cost.seconds < 10
        assert 0 < cost.peak_bytes < 64 << 20  # of sh, not of this process
        assert launcher.output() == "out\nerr\n"


def test_what_is_no_program_is_nobodys_peer() -> None:
    bare = Result("bare", ours=False, costs=[Cost(1, 1, 1)], bare=True)
    outcome = Outcome("key", "title", [result("ours", 3, ours=True), bare, result("theirs", 6)])
    assert outcome.best_peer.name == "theirs"
    assert (outcome.ratio, round(outcome.share(bare), 2)) == (0.5, 0.17)
