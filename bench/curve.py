"""The curves: time over link rate, for adaptive compression and the levels that it chooses from; memory over size."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bench import upload
from bench.contest import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

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
    with _picture(target, "netdump send -d 1, one CPU: adaptive compression and fixed levels") as axes:
        for result in outcomes[0].results:
            times = [outcome.ours(result.name).seconds for outcome in outcomes]
            heavy = result.name == ADAPTIVE
            axes.plot(names, times, marker="o", lw=3 if heavy else 1.2, ls="-" if heavy else "--", label=result.name)
        axes.set_yscale("log")
        axes.set_ylabel("seconds until durable")
        axes.set_xlabel("link")


def draw_peaks(peaks: Mapping[str, Mapping[int, float]], most: float | None, target: Path) -> None:
    """Peak memory over the memory of the machine that is dumped. peaks: MiB by GiB, for each curve. most: the goal."""
    with _picture(target, "peak memory at level 31 over the size of the core") as axes:
        for name, points in peaks.items():
            axes.plot(list(points), list(points.values()), marker="o", label=name)
        if most is not None:
            axes.axhline(most, ls="--", color="black", label=f"goal: {most:g} MiB")
        axes.set_xscale("log", base=2)
        sizes = sorted({size for points in peaks.values() for size in points})
        axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("peak resident memory, MiB")
        axes.set_xlabel("GiB of memory in the core")


@contextmanager
def _picture(target: Path, title: str) -> Iterator[Axes]:
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and of the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=110)
    yield axes
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)
    plt.close(figure)


def _name(level: int) -> str:
    return f"zstd level {level}" if level else "stored"
