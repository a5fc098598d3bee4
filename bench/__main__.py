"""`./run bench`: netdump and its peers in the same run, one table, a JSON file, and which goals are met."""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import stages
from bench.page import update_page
from bench.process import STOPS, BenchError, Launcher
from bench.report import Results, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parent / ".cache" / "bench"
ROUNDS: Final = 5
ROUNDS_QUICK: Final = 2


def main(argv: Sequence[str]) -> int:
    """Run the benchmark. Returns 0, or 1 if something that it stands on failed."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.quick and arguments.update_docs:
        parser.error("what --quick measures is not for docs/performance.md")
    rounds = arguments.rounds or (ROUNDS_QUICK if arguments.quick else ROUNDS)
    results = Results(rounds)
    wanted = arguments.only or list(stages.STAGES)
    begun = time.monotonic()
    for number in STOPS:
        signal.signal(number, _stop)
    try:
        with _workplace(arguments) as workplace:
            for name in wanted:
                print(f"# {name}, after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
                stages.STAGES[name](workplace, results)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    results.seconds = time.monotonic() - begun
    print(lines(results.everything()))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results.members(), indent=1) + "\n")
        print(f"\nall figures: {arguments.json}")
    if arguments.update_docs and (unplaced := update_page(results)):
        print(f"bench: docs/performance.md has no place for {', '.join(unplaced)}", file=sys.stderr)
    return 0


def _stop(number: int, _frame: object) -> NoReturn:
    """Have all that was begun be put away. Once: what comes while that is done changes nothing."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def _workplace(arguments: argparse.Namespace) -> Iterator[stages.Workplace]:
    """Folders that are gone afterwards, and the launcher, started while this process is small."""
    compileall.compile_dir(HERE.parent / "netdump", quiet=2)  # as the capture image has it
    CACHE.mkdir(parents=True, exist_ok=True)
    bench = Path(tempfile.mkdtemp(prefix="netdump-bench-"))
    far = Path(tempfile.mkdtemp(prefix="netdump-bench-far-", dir=arguments.folder))
    try:
        with Launcher(bench / "output") as launcher:
            rounds = arguments.rounds or (ROUNDS_QUICK if arguments.quick else ROUNDS)
            yield stages.Workplace(CACHE, bench, far, launcher, rounds, arguments.quick, arguments.update_docs)
    finally:
        shutil.rmtree(bench)
        shutil.rmtree(far)


def _stages(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in stages.STAGES]:
        wrong, known = ", ".join(map(repr, unknown)), ", ".join(stages.STAGES)
        raise argparse.ArgumentTypeError(f"there is no stage {wrong}, but {known}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke run of some three minutes: small cores, two rounds")
    add("--rounds", type=int, metavar="N", help=f"rounds that count (default {ROUNDS})")
    add("--only", type=_stages, metavar="STAGE,…", help=f"of {', '.join(stages.STAGES)}")
    add("--json", type=Path, default=CACHE / "results.json", metavar="FILE", help="where all figures go")
    add("--update-docs", action="store_true", help="put the tables into docs/performance.md; its goals follow")
    add(
        "--folder",
        default="/dev/shm",
        metavar="DIR",
        help="where the far end writes (default /dev/shm, so that programs are compared and not one disk's mood)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
