"""Coverage-guided fuzzing of one target with atheris (`pip install -e '.[fuzz]'`): a campaign's work, not CI's.

python -m tests.fuzz TARGET SECONDS [FOLDER]

FOLDER keeps the inputs that lead to new code, and findings as crash-…; a second run goes on from it. The exit status is
0 if nothing was found. `python -m tests.fuzz --list` names the targets.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["netdump", "tomllib"]):
    from tests.fuzz.target import CORPUS
    from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.target import Target

SECONDS_FOR_ONE = 20  # beyond what `judge` allows: the machine may be busy, and instrumented code is slow
MEMORY_MIB = 1024


def main(name: str, seconds: str, folder: str | None = None) -> None:
    """Fuzz one target; atheris ends the process."""
    target = TARGETS[name]
    work = Path(folder or tempfile.mkdtemp(prefix=f"netdump-fuzz-{name}-"))
    work.mkdir(parents=True, exist_ok=True)
    seeds = work / "seeds"
    seeds.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (seeds / f"seed-{number}").write_bytes(data)
    kept = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    found = work / "inputs"
    found.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={int(seconds)}", f"-max_len={target.bytes_max}", f"-timeout={SECONDS_FOR_ONE}",
        f"-rss_limit_mb={MEMORY_MIB}", f"-artifact_prefix={work}/", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(found), str(seeds), *kept], _one_input(target))
    atheris.Fuzz()


def _one_input(target: Target) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        with suppress(*target.errors):
            target.run(data)

    return take


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(TARGETS))
    else:
        main(*sys.argv[1:])
