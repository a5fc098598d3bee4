"""`netdump pages`: which page frames a dump holds, and which it lacks."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from netdump.analyze.frames import ABSENT, CLASSES, KINDS, STATES, FrameMap
from netdump.analyze.runspool import RunSpool
from netdump.cli.output import exact_size_text, fetch_progress, print_facts, print_json, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import BadHeadersError, DamagedError, StorageFaultError
from netdump.index.record import State
from netdump.vmcore.elf import join_headers
from netdump.wire import unpack_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netdump.analyze.frames import Frames, PageCounts
    from netdump.cli.reading import Source
    from netdump.index.reading import Catalog
    from netdump.index.record import DumpRecord
    from netdump.store.runtables import RunTable
    from netdump.vmcore.elf import ElfHeaders

# A class may be named alone where no state has its name.
ALONE: Final = {kind.partition(":")[2]: kind for kind in CLASSES.values() if kind.partition(":")[2] not in STATES}
CHOICES: Final = (*KINDS, *ALONE)

_TEXTS: Final = 4096  # printed at once


@click.command(
    "pages",
    short_help="Count or list the page frames of a dump by state.",
    epilog=exit_statuses(BadHeadersError, DamagedError, StorageFaultError),
)
@click.argument("dump_id", metavar="ID")
@click.option(
    "--list",
    "listed",
    metavar="STATE|CLASS",
    type=click.Choice(CHOICES),
    help="Print the ranges of page frame numbers in one state or of one class instead.",
)
@reading_options
def command(*, source: Source, dump_id: str, listed: str | None, as_json: bool) -> None:
    """Count the page frames of the dump ID by state, or list them.

    States are data, zero, alias (the same bytes stood earlier in the image), excluded (by the page filter) and lost
    (could not be read). Excluded frames are counted by class too: cache, cache_private, user, free, hwpoison, offline,
    unaccepted, and zero, which --list takes as excluded:zero, as `zero` alone is the state. `absent` are frames that
    the core's own headers name without bytes: a filter had left them out before the core was sent.

    Each frame counts once for every state that it is in. A page that stands at several places of the image, as the
    kernel's text in x86_64 cores, counts once under each of its states: as a rule as data and as alias. Bytes are those
    of the image; headers, notes and padding show no memory and are counted apart, as `not memory`.

    --list prints one range a line, START-END in hexadecimal, END included, ascending, neighbours joined. Multiply by
    the page size for addresses. Of a dump that is not complete, what has arrived is counted.

    Nothing is decompressed for this: `netdump verify` tells whether what is stored is sound.

    With --json the object has `id`, `state`, `complete`, `page_bytes`, `image_bytes`, `arrived_bytes`,
    `not_memory_bytes`, and `frames` and `bytes`, by state and class; with --list, `id`, `page_bytes`, `list` and
    `ranges`, pairs of numbers, END included.

    \b
    Examples:
      netdump pages 3f2a
      netdump pages 3f2a --list lost
      netdump pages 3f2a --list cache
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        headers = read_headers(catalog, record)
        with closing(catalog.run_tables(record.id)) as tables, read_tables(record, tables) as spool:
            check_totals(record, spool)
            frames = FrameMap(spool, headers, record.page_bytes)
            if listed is not None:
                kind = ALONE.get(listed, listed)
                print_ranges(record, kind, frames.ranges({kind}), as_json=as_json)
            else:
                with fetch_progress() as progress:
                    progress.begin(spool.end, 0, "counting", announce=False)
                    counts = frames.count(progress.advance)
                if as_json:
                    print_json(counts_json(record, spool.end, counts))
                else:
                    print_counts(record, spool.end, counts)
    if spool.end < record.image_bytes:
        warn(f"the dump is not complete: {record.image_bytes - spool.end:,} bytes of the image have not arrived")


def read_headers(catalog: Catalog, record: DumpRecord) -> ElfHeaders:
    """The headers of the core, from the dump's headline. Raises BadHeadersError and other CoreErrors."""
    raw = catalog.headline(record.id)
    document = None if raw is None else unpack_document(raw)
    if document is None or document.ehdr is None or document.phdrs is None:
        raise BadHeadersError(f"dump {record.id} came without the headers of its core: its page frames are not known")
    if not record.page_bytes:
        raise BadHeadersError(f"the size of the pages of dump {record.id} is not known, and so its page frames are not")
    return join_headers(document.ehdr, document.phdrs, record.image_bytes, f"the headline of dump {record.id}")


def read_tables(record: DumpRecord, tables: Iterable[RunTable]) -> RunSpool:
    """Keep the run tables for going through them. Of a terabyte this takes a minute or two."""
    with fetch_progress() as progress:
        progress.begin(record.durable_bytes, 0, "reading", announce=False)
        return RunSpool(tables, progress=progress.advance)


def check_totals(record: DumpRecord, spool: RunSpool) -> None:
    """Raises DamagedError if the run tables of a complete dump are not what its manifest counts."""
    if record.state is not State.COMPLETE or record.totals is None:
        return
    found = {state: getattr(spool.totals, state) for state in STATES}
    if found != dict(record.totals):
        raise DamagedError(
            f"the run tables of dump {record.id} do not add up to its totals; "
            f"`netdump verify {record.id[:12]}` says more"
        )


def print_ranges(record: DumpRecord, kind: str, ranges: Iterable[Frames], *, as_json: bool) -> None:
    """Print ranges as they come: there may be millions."""
    if not as_json:
        _print_all(f"{first:x}-{end - 1:x}\n" for _, first, end in ranges)
        return
    head = f'{{\n  "id": "{record.id}",\n  "page_bytes": {record.page_bytes},\n  "list": "{kind}",\n  "ranges": ['
    click.echo(head, nl=False)
    _print_all(f"{',' if number else ''}\n    [{first}, {end - 1}]" for number, (_, first, end) in enumerate(ranges))
    click.echo("\n  ]\n}")


def _print_all(texts: Iterator[str]) -> None:
    """Print texts, many at a time: a system call for each takes longer than all else that is done for it."""
    while part := "".join(islice(texts, _TEXTS)):
        click.echo(part, nl=False)


def print_counts(record: DumpRecord, arrived: int, counts: PageCounts) -> None:
    """Print what was counted, one line a state or class; classes that do not occur are left out."""
    lines = [("dump", f"{record.id}, {record.state.value}"), ("page", f"{record.page_bytes:,} bytes")]
    for kind in KINDS:
        frames, size = counts.frames[kind], counts.bytes[kind]
        of_class = kind not in STATES
        if frames or not of_class:
            name = kind if not of_class or kind == ABSENT else "  " + kind.partition(":")[2]
            lines.append((name, f"{frames:,} frames, {exact_size_text(size)}" if frames else "none"))
    lines.append(("not memory", exact_size_text(counts.not_memory)))
    if arrived < record.image_bytes:
        lines.append(("not arrived", exact_size_text(record.image_bytes - arrived)))
    lines.append(("image", exact_size_text(record.image_bytes)))
    print_facts(lines)


def counts_json(record: DumpRecord, arrived: int, counts: PageCounts) -> dict[str, object]:
    """The public object."""
    return {
        "id": record.id,
        "state": record.state.value,
        "complete": arrived == record.image_bytes,
        "page_bytes": record.page_bytes,
        "image_bytes": record.image_bytes,
        "arrived_bytes": arrived,
        "not_memory_bytes": counts.not_memory,
        "frames": counts.frames,
        "bytes": counts.bytes,
    }
