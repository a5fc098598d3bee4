"""The frame of campaigns: cases by number, findings, results that survive, the table of the page."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.campaign.__main__ import ROOM, room_for_files
from tests.campaign.frame import Budget, Campaign, Result, Tally, campaigns, carry_out, numbered
from tests.campaign.page import PAGE, row, rows_of, with_figures, with_fuzzing
from tests.fuzz.found import Work, load_ledger


def look(case: int, tally: Tally) -> None:
    tally.count("cases")
    if case == 7:
        raise ValueError("seven")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_case_is_looked_at_and_a_fault_has_its_number(jobs: int) -> None:
    tally = numbered(Budget.of(60, jobs=jobs), look, range(1, 20), batch=3)
    assert tally.counts == {"cases": 19}
    (finding,) = tally.findings
    assert finding.case == "7"
    assert "ValueError" in finding.symptom
    assert "seven" in finding.symptom


def test_one_case_is_shown_with_what_it_raises() -> None:
    with pytest.raises(ValueError, match="seven"):
        numbered(Budget.of(60, case="7"), look, range(1))
    assert numbered(Budget.of(60, case="8"), look, range(1)).counts == {"cases": 1}


def test_the_time_ends_it() -> None:
    assert numbered(Budget.of(0), look, range(1000), batch=10).counts == {"cases": 10}


def test_a_campaign_that_breaks_is_a_finding() -> None:
    def run(budget: Budget) -> Tally:
        raise RuntimeError("oops")

    result = carry_out(Campaign("broken", "breaks", run), Budget.of(1))
    assert "oops" in result.tally.findings[0].symptom


def test_a_campaign_that_looks_at_less_than_it_should_is_a_finding() -> None:
    campaign = Campaign("lazy", "looks at little", lambda _: Tally(), least={"cases": 3})
    tally = Tally(counts={"cases": 3})
    campaign.check_quick(tally)
    assert not tally.findings
    tally.counts["cases"] = 2
    campaign.check_quick(tally)
    assert "only 2 cases" in tally.findings[0].symptom


def test_results_survive_and_stand_in_the_page(tmp_path: Path) -> None:
    def run(budget: Budget) -> Tally:
        return numbered(budget, look, range(20))

    result = carry_out(Campaign("sample", "counts to twenty", run), Budget.of(60, seed=3))
    result.save(tmp_path)
    assert Result.load(tmp_path / "sample.json") == result
    before = PAGE.read_text()
    after = with_figures(before, [result])
    assert row(result) == "| `sample` | counts to twenty | 20 cases | 0 s | 3 | 1 |\n"
    assert rows_of(after) == {**rows_of(before), "sample": row(result)}
    assert with_figures(after, [result]) == after


def test_every_row_of_the_page_is_of_a_campaign() -> None:
    assert set(rows_of(PAGE.read_text())) <= set(campaigns())


def test_the_ledger_of_fuzzing_stands_in_the_page() -> None:
    before = PAGE.read_text()
    after = with_fuzzing(before, {"runs": Work(7300, 12_345, 6, 7, 8)})
    assert "| `runs` | 2.0 h | 12,345 | 6 | 7 | 8 |\n| all | 2.0 h | 12,345 | | | |\n" in after
    assert with_fuzzing(after, load_ledger()) == with_fuzzing(before, load_ledger())


def test_temporary_files_go_with_the_campaigns() -> None:
    with room_for_files():
        folder = Path(tempfile.mkdtemp())
        assert os.environ["TMPDIR"] == str(folder.parent)
    assert not folder.parent.exists()
    assert Path(tempfile.gettempdir()) != folder.parent


def test_what_killed_campaigns_have_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = {each: tmp_path / f"{ROOM}{each}-x1" for each in (ended.pid, os.getpid(), "nobody", 10**30)}
    for each in names.values():
        (each / "dumps").mkdir(parents=True)
    with room_for_files():
        assert [number for number, path in names.items() if not path.exists()] == [ended.pid]


def see(case: int, tally: Tally) -> None:
    tally.distinct("remainders", bytes([case % 7]) * 32)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_met_twice_counts_once(jobs: int) -> None:
    assert numbered(Budget.of(60, jobs=jobs), see, range(40), batch=9).counts == {"remainders": 7}


def test_a_run_goes_on_where_the_last_one_has_ended(tmp_path: Path) -> None:
    def run(budget: Budget) -> Tally:
        return numbered(budget, see, range(budget.seed - 1, 20), batch=4)

    campaign = Campaign("sample", "seven remainders", run)
    first = carry_out(campaign, Budget.of(60, seed=1, cases=3))
    assert (first.tally.counts, first.next_seed) == ({"remainders": 3}, 4)
    first.save(tmp_path)
    kept = Result.load(tmp_path / "sample.json")
    both = carry_out(campaign, Budget.of(60, seed=kept.next_seed)).after(kept)
    assert (both.seed, both.tally.counts, both.tally.cases) == (1, {"remainders": 7}, 20)
