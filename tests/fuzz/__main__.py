"""Coverage-guided fuzzing of one target with atheris (`pip install -e '.[fuzz]'`): a campaign's work, not CI's.

python -m tests.fuzz TARGET SECONDS [FOLDER]     FOLDER keeps inputs that lead to new code, and findings as crash-…
python -m tests.fuzz TARGET --merge FOLDER       makes FOLDER/inputs the smallest set that reaches as much
python -m tests.fuzz --list                      names the targets

A run begins with the target's seeds, what the repository keeps for it, and what is in FOLDER/inputs already. The exit
status is 0 if nothing was found.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import atheris  # type: ignore[import-untyped]

atheris.enabled_hooks.add("str")  # what a text begins or ends with leads on; its hook for expressions breaks on bytes

with atheris.instrument_imports(include=["netdump", "tomllib"]):
    from tests.fuzz.found import found
    from tests.fuzz.janitor import call_janitor
    from tests.fuzz.target import CORPUS
    from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.target import Target

SECONDS_FOR_ONE = 20  # beyond what `judge` allows: the machine may be busy, and instrumented code is slow
MEMORY_MIB = 1024


def fuzz(target: Target, seconds: int, work: Path) -> None:
    """Fuzz one target; atheris ends the process."""
    options = [
        f"-max_total_time={seconds}", f"-timeout={SECONDS_FOR_ONE}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={work}/", "-print_final_stats=1",
    ]  # fmt: skip
    _run(target, [*options, *_folders(target, work)])


def merge(target: Target, work: Path) -> None:
    """Leave out the inputs that reach nothing that the others do not; atheris ends the process."""
    before, after = work / "before", work / "inputs"
    folders = _folders(target, work)
    shutil.rmtree(before, ignore_errors=True)
    after.rename(before)
    after.mkdir()
    _run(target, ["-merge=1", str(after), str(before), *folders[1:]])


def _folders(target: Target, work: Path) -> list[str]:
    """Where inputs are: first those of this run, which it adds to."""
    seeds, inputs = work / "seeds", work / "inputs"
    shutil.rmtree(seeds, ignore_errors=True)
    for folder in (seeds, inputs):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate((*target.seeds(), *found(target.name))):
        (seeds / f"seed-{number}").write_bytes(data)
    kept = [str(CORPUS / target.name)] if (CORPUS / target.name).is_dir() else []
    return [str(inputs), str(seeds), *kept]


def _run(target: Target, options: list[str]) -> None:
    # To merge, libFuzzer calls itself: these words, in a shell, with options behind them.
    again = f"{sys.executable} -W ignore -m tests.fuzz {target.name}"
    atheris.Setup([again, f"-max_len={target.bytes_max}", *options], _one_input(target))
    atheris.Fuzz()


def _one_input(target: Target) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        with suppress(*target.errors):
            target.run(data)

    return take


def main(name: str, *words: str) -> None:
    """The command."""
    target = TARGETS[name]
    call_janitor()
    if words[0] == "--merge":
        merge(target, Path(words[1]))
    elif words[0].startswith("-"):
        _run(target, list(words))
    else:
        fuzz(target, int(words[0]), Path(*words[1:2] or [tempfile.mkdtemp(prefix=f"netdump-fuzz-{name}-")]))


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(TARGETS))
    else:
        main(*sys.argv[1:])
