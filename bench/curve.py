"""The curve of adaptive compression: time over link rate, for the levels that it chooses from and for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import upload
from bench.contest import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.contest import Outcome

ADAPTIVE: Final = "adaptive"
LEVELS: Final = (0, -7, 1, 3)


def race(arena: upload.Arena, core: Path, rate: str, name: str, *, rounds: int, say: Callable[[str], None]) -> Outcome:
    """Adaptive compression against each fixed level, over the link as it is set. rate, name: of it."""
    fixed = [upload.ours(arena, core, 1, settings=[f"compression = {level}"], name=_name(level)) for level in LEVELS]
    adaptive = upload.ours(arena, core, 1, name=ADAPTIVE)
    title = f"Compression, {name}, client on one CPU"
    return hold(f"compression.{rate}", title, [adaptive, *fixed], arena.launcher, rounds=rounds, say=say)


def draw(outcomes: Sequence[Outcome], names: Sequence[str], target: Path) -> None:
    """The curve as a PNG. outcomes, names: of one link rate each, slowest first."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and of the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=110)
    for result in outcomes[0].results:
        times = [outcome.ours(result.name).seconds for outcome in outcomes]
        heavy = result.name == ADAPTIVE
        axes.plot(names, times, marker="o", lw=3 if heavy else 1.2, ls="-" if heavy else "--", label=result.name)
    axes.set_yscale("log")
    axes.set_ylabel("seconds until durable")
    axes.set_xlabel("link")
    axes.set_title("netdump send -d 1, one CPU: adaptive compression and fixed levels")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)
    plt.close(figure)


def _name(level: int) -> str:
    return f"zstd level {level}" if level else "stored"
