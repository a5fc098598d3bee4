"""`./run campaign`: run campaigns, keep what they came to, and write it into docs/reliability.md on demand."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.campaign.frame import Budget, Campaign, Result, campaigns, carry_out
from tests.campaign.page import PAGE, with_figures, with_fuzzing
from tests.fuzz.found import load_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parents[2] / ".campaign"
SECONDS = 300.0
NIGHT_S = 8 * 3600.0
ROOM = "netdump-campaign-"  # and the number of the process


def main() -> int:
    known = campaigns()
    options = parse(known)
    if options.list:
        for campaign in known.values():
            print(f"{campaign.name:14} {campaign.summary}")
        return 0
    if options.write:
        return write()
    chosen = [known[name] for name in options.names or known]
    if options.quick:
        chosen = [campaign for campaign in chosen if campaign.quick]
    seconds = NIGHT_S / len(chosen) if options.night else options.seconds
    with room_for_files():
        return max([run(campaign, options, seconds) for campaign in chosen], default=0)


@contextmanager
def room_for_files() -> Iterator[None]:
    """All temporary files of campaigns, their processes included, lie in one folder that goes when they end.

    What campaigns have left that were killed goes now.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    before = os.environ.get("TMPDIR")
    for left in Path(tempfile.gettempdir()).glob(f"{ROOM}*-*"):
        if not runs(left.name.removeprefix(ROOM).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{ROOM}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before


def runs(number: str) -> bool:
    """Whether there is such a process; also if number is none."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        pass
    return True


def leave(number: int, _frame: object) -> NoReturn:
    """As after Ctrl-C."""
    sys.exit(128 + number)


def parse(known: dict[str, Campaign]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run campaign", description="Long searches for faults; see docs/reliability.md."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="campaigns to run; all by default (see --list)")
    parser.add_argument("--list", action="store_true", help="say which campaigns there are")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=SECONDS, help="time for each campaign (%(default)s)")
    length.add_argument("--night", action="store_true", help="share eight hours among the campaigns")
    length.add_argument("--quick", action="store_true", help="the fixed number of cases that every landing looks at")
    first = parser.add_mutually_exclusive_group()
    first.add_argument("--seed", type=int, default=1, help="number of the first case (%(default)s)")
    first.add_argument("--more", action="store_true", help="go on where the last run has ended, and add to its figures")
    parser.add_argument("--case", help="look at this case of one campaign only, and show what it raises")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the last results into docs/reliability.md")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"there is no campaign {unknown[0]!r}; known are: {', '.join(known)}")
    if options.case is not None and len(options.names) != 1:
        parser.error("--case goes with the name of one campaign")
    return options


def run(campaign: Campaign, options: argparse.Namespace, seconds: float) -> int:
    """Run one; the exit status."""
    if options.case is not None:
        tally = campaign.run(Budget.of(seconds, options.seed, options.case))
        print(f"{campaign.name}, case {options.case}: {tally.counts}")
        for finding in tally.findings:
            print(f"  {finding.symptom}")
        return 1 if tally.findings else 0
    much = f"{campaign.quick:,} cases" if options.quick else f"{seconds:.0f} s"
    print(f"{campaign.name}: {campaign.summary}; {much} ...", flush=True)
    before = Result.load(kept) if options.more and (kept := RESULTS / f"{campaign.name}.json").exists() else None
    seed = options.seed if before is None else before.next_seed
    budget = Budget.of(seconds, seed, jobs=options.jobs)
    if options.quick:
        budget = Budget.of(NIGHT_S, seed, jobs=options.jobs, cases=campaign.quick)
    result = carry_out(campaign, budget)
    if result.skipped is not None:
        print(f"  skipped: {result.skipped}")
        return 0
    if options.quick:
        campaign.check_quick(result.tally)
    tell(result)
    if before is not None:
        result = result.after(before)
        print("  with what was looked at before:")
        tell(result)
    if not options.quick:
        result.save(RESULTS)
    return 1 if result.tally.findings else 0


def tell(result: Result) -> None:
    """What a run came to."""
    tally = result.tally
    print(f"  {result.seconds} s: " + ", ".join(f"{number:,} {what}" for what, number in sorted(tally.counts.items())))
    for note in tally.notes:
        print(f"  {note}")
    for finding in tally.findings:
        print(f"  FAULT: {finding.symptom}\n    again: ./run campaign {result.name} --case {finding.case}")
    if tally.more_findings:
        print(f"  and {tally.more_findings} more")


def write() -> int:
    results = [Result.load(path) for path in sorted(RESULTS.glob("*.json"))]
    PAGE.write_text(with_fuzzing(with_figures(PAGE.read_text(), results), load_ledger()))
    print(f"{len(results)} results of {RESULTS}, and the ledger of fuzzing, written into {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
