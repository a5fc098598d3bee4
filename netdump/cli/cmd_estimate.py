"""`netdump estimate`: how large a dump of this machine would be, before any crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from netdump.analyze.estimate import Estimate, estimate, memory_bytes
from netdump.cli.output import (
    duration_text,
    exact_size_text,
    fetch_progress,
    print_facts,
    print_json,
    print_table,
    size_text,
    warn,
)
from netdump.cli.reading import exit_statuses
from netdump.errors import (
    BadHeadersError,
    EmptyCoreError,
    KernelDataError,
    NotElfError,
    SourceUnreadableError,
    TruncatedCoreError,
)
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.kcore import KCORE, crash_kernel_memory, open_kcore
from netdump.vmcore.kernel import read_facts
from netdump.vmcore.source import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.analyze.estimate import Forecast
    from netdump.vmcore.elf import ElfHeaders
    from netdump.vmcore.source import Source

LEVELS: Final = (0, 1, 2, 4, 8, 16, 31)
_LEAVES_OUT: Final = {0: "nothing", 2: "cache", 4: "cache, also with private data", 8: "user", 16: "free"}
RATE: Final = 100 << 20
"""Bytes a second, on the wire, for which a time is named: a gigabit link."""


@click.command(
    "estimate",
    short_help="Forecast how large a dump of this machine would be.",
    epilog=exit_statuses(
        SourceUnreadableError,
        NotElfError,
        EmptyCoreError,
        TruncatedCoreError,
        BadHeadersError,
        KernelDataError,
        common=(),
    ),
)
@click.argument("vmcore", metavar="[VMCORE]", default=KCORE)
@click.option(
    "-d",
    "--level",
    "levels",
    type=click.IntRange(0, 31),
    multiple=True,
    help="Forecast this level; may be repeated. Default: 0, 1, 2, 4, 8, 16 and 31.",
)
@click.option(
    "--compression",
    type=click.IntRange(-7, 9),
    default=1,
    show_default=True,
    help="zstd level; 0: none. See client.md.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another number draws another sample.")
@click.option("--json", "as_json", is_flag=True, help="Print an object instead.")
def command(*, vmcore: str, levels: tuple[int, ...], compression: int, seed: int, as_json: bool) -> None:
    """Forecast the size of a dump at each dump level: of the machine as it runs now, or of the core file VMCORE.

    Of a running machine (/proc/kcore, needs root, Linux 4.19 or newer) every struct page is read, and of its memory a
    sample of some 50 MiB, which is compressed as the client would do it. Nothing is written or sent. It takes a second
    for each 20 GiB or so. Memory changes meanwhile, and a crash will find other contents: take the sizes for a
    forecast, and make it when the machine is at work.

    `data` is what has to be sent before compression, `wire` after it: what the collector stores. Over a network that is
    faster than its processors the client compresses less, down to nothing, unless `compression` is set in its bundle:
    reckon with up to `data` then. While a restored vmcore is kept there too, it takes `data` on top. Pages of zeros are
    not sent at any level. What is left out at which level is in docs/filter.md. Memory reserved for the capture kernel
    is no part of a dump.

    With --json the object has `source`, `kernel_release`, `page_bytes`, `memory_bytes`, `pages` (by class; `kernel` are
    those that are kept at every level), `sampled_pages`, `crashkernel_bytes`, `remark`, and `levels`: objects with
    `level`, `excluded_bytes`, `zero_bytes`, `data_bytes`, `wire_bytes`, and `unseen_bytes`: of those of zeros, what may
    be data that the sample missed.

    \b
    Examples:
      netdump estimate
      netdump estimate -d 31 -d 0 --json
      netdump estimate /var/crash/vmcore
    """
    live = vmcore == KCORE
    reserved = crash_kernel_memory() if live else []
    source, headers = _open(vmcore, reserved)
    try:
        facts = read_facts(source, headers)
        with fetch_progress() as progress:
            progress.begin(memory_bytes(headers), 0, "looking through")
            found = estimate(source, headers, facts, compression=compression, seed=seed, progress=progress.advance)
    finally:
        source.close()
    forecasts = [found.forecast(level) for level in dict.fromkeys(levels or LEVELS)]
    crashkernel = sum(map(len, reserved))
    if as_json:
        print_json(_object(vmcore, facts.release, found, forecasts, crashkernel))
        return
    _show(found, facts.release, forecasts, crashkernel)
    unseen = max(forecast.unseen for forecast in forecasts)
    if unseen:
        warn(f"the sample may have missed data that is rare: up to {size_text(unseen)} more, before compression")
    if found.remark:
        warn(f"less would be left out than the levels ask for: {found.remark}")


def _open(vmcore: str, reserved: Sequence[range]) -> tuple[Source, ElfHeaders]:
    if vmcore == KCORE:
        return open_kcore(vmcore, reserved)
    source = open_source(vmcore)
    try:
        return source, parse_headers(source.read, source.size, source.name)
    except BaseException:
        source.close()
        raise


def _show(found: Estimate, release: str | None, forecasts: Sequence[Forecast], crashkernel: int) -> None:
    facts = [("kernel", release or "unknown"), ("memory", exact_size_text(found.memory_bytes))]
    for exclude, figures in found.kinds.items():
        size = figures.pages * found.page_bytes
        zero = f", of which zero {100 * figures.zero / figures.sampled:.0f}%" if figures.sampled else ""
        facts.append((f"  {_name(exclude.name)}", f"{size_text(size)} in {figures.pages:,} pages{zero}"))
    if crashkernel:
        facts.append(("reserved for the capture kernel", size_text(crashkernel)))
    print_facts(facts)
    click.echo()
    rows = [
        (
            str(forecast.level),
            size_text(forecast.excluded),
            size_text(forecast.data),
            size_text(forecast.wire),
            duration_text(forecast.wire / RATE),
            _leaves_out(forecast.level),
        )
        for forecast in forecasts
    ]
    print_table(("level", "left out", "data", "wire", "at 100 MiB/s", "leaves out"), rows)
    click.echo()
    click.echo(
        "The collector stores what is on the wire: over a fast network up to `data`, unless `compression` is set."
    )


def _leaves_out(level: int) -> str:
    if level == 31:
        return "all of these"
    if level == 1:
        return "zero, which is sent at no level"
    bits = [text for bit, text in _LEAVES_OUT.items() if bit and level & bit and not (bit == 2 and level & 4)]
    return ", ".join(bits) or "nothing"


def _name(exclude: str) -> str:
    return "kernel" if exclude == "NONE" else exclude.lower()


def _object(
    vmcore: str, release: str | None, found: Estimate, forecasts: Sequence[Forecast], crashkernel: int
) -> dict[str, object]:
    """The public object."""
    return {
        "source": vmcore,
        "kernel_release": release,
        "page_bytes": found.page_bytes,
        "memory_bytes": found.memory_bytes,
        "pages": {_name(exclude.name): figures.pages for exclude, figures in found.kinds.items()},
        "sampled_pages": sum(figures.sampled for figures in found.kinds.values()),
        "crashkernel_bytes": crashkernel,
        "remark": found.remark,
        "levels": [
            {
                "level": forecast.level,
                "excluded_bytes": forecast.excluded,
                "zero_bytes": forecast.zero,
                "data_bytes": forecast.data,
                "wire_bytes": forecast.wire,
                "unseen_bytes": forecast.unseen,
            }
            for forecast in forecasts
        ],
    }
