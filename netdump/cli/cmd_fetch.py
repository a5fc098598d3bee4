"""`netdump fetch`: bring a dump to this machine."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.cli.output import duration_text, exact_size_text, fetch_progress, print_json, printable, size_text, warn
from netdump.cli.piping import is_piped, pour
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import (
    AlreadyExistsError,
    BadHeadersError,
    BusyError,
    DamagedError,
    IncompleteDumpError,
    NetdumpError,
    OutputError,
    StorageFaultError,
)
from netdump.index.record import State
from netdump.pages import PageState
from netdump.remote.fetch import JOBS_DEFAULT, JOBS_MAX, Transfer, default_name, fetch
from netdump.remote.formats import Compression, Format, Output

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.index.reading import Catalog
    from netdump.index.record import DumpRecord
    from netdump.remote.fetch import Fetched

# What becomes of lost pages in a file of that format.
LOST_LOOKS = {
    Format.ELF: "look like zeros",
    Format.ZST: "look like zeros",
    Format.KDUMP: "are marked as such",
}


@click.command(
    "fetch",
    short_help="Bring a dump to this machine, verified, as a core file.",
    epilog=exit_statuses(
        BadHeadersError,
        DamagedError,
        IncompleteDumpError,
        BusyError,
        StorageFaultError,
        AlreadyExistsError,
        OutputError,
    ),
)
@click.argument("dump_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Where to write it; in a folder, under the default name; - is standard output.  "
    "[default: vmcore-HOST-ID and a suffix here]",
)
@click.option(
    "--format",
    "file_format",
    metavar="FORMAT",
    type=click.Choice([each.value for each in Format]),
    default=Format.ELF.value,
    show_default=True,
    help="elf, kdump or zst; see above.",
)
@click.option(
    "--compression",
    metavar="NAME",
    type=click.Choice([each.value for each in Compression]),
    help="Of the pages of a kdump: zlib, zstd or none.  [default: zlib]",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, JOBS_MAX),
    default=JOBS_DEFAULT,
    show_default="CPUs and one more, at most 4",
    help="How many segments to fetch at a time.",
)
@click.option(
    "--transfer",
    metavar="HOW",
    type=click.Choice([each.value for each in Transfer]),
    default=Transfer.AUTO.value,
    show_default=True,
    help="plain, packed (compressed on the way), or auto: by the speed of the network.",
)
@click.option("--force", is_flag=True, help="Replace FILE, or a longer FILE.incomplete, if it is there.")
@reading_options
def command(
    *,
    source: Source,
    dump_id: str,
    output: str | None,
    file_format: str,
    compression: str | None,
    jobs: int,
    transfer: str,
    force: bool,
    as_json: bool,
) -> int:
    """Bring the dump ID to this machine as a sparse ELF core, ready for crash, drgn and gdb, or in another format.

    \b
      elf    sparse ELF core, byte for byte; excluded and lost pages are zeros
      kdump  kdump-compressed, for crash, drgn and makedumpfile: excluded and lost
             pages are marked. zlib is for the most readers, zstd is faster
      zst    the ELF core as one zstd file; `zstd -d` makes it

    Compressed segments come in parallel; each page is verified by its digest, and all of them by the root digest of the
    dump, before the file gets its name. There is never a FILE that is not whole.
    A dump that its host sent uncompressed, over a fast network, is compressed on the way over a slow one.

    Until then everything lies in FILE.netdump-partial. After any interruption (Ctrl-C, a lost network, a full disk, a
    power cut) the same command goes on with what is there, all but the last second's (at most 16 MiB of each segment
    under way), and believes nothing of it: what is not sound is fetched again. To give up, remove the folder.

    Of a dump that is not complete, what has arrived goes to FILE.incomplete, but not in place of a longer one; the exit
    status is then 44, or 41 where it is damaged at the collector. Files hold secrets: their mode is 0600.

    With `-o -` it goes to standard output, all else to standard error, once it is whole and verified; until then it
    lies here as without -o. crash and makedumpfile read no kdump from a pipe.

    With --json the object has the members `id`, `host`, `path`, `format`, `complete`, `bytes` (of the file),
    `image_bytes`, `transferred_bytes`, `seconds`, `root`, and `lost_bytes` and `excluded_bytes`: of the image, what the
    host could not read, and what its filter left out; null where that is not known, as of a dump that is not complete.
    Lost pages are also told of on standard error.

    \b
    Examples:
      netdump fetch 3f2a
      netdump fetch 3f2a -o /var/crash/web1.elf --jobs 8
      netdump fetch 3f2a --format kdump --compression zstd
      netdump fetch 3f2a --format zst -o - | ssh desk 'cat > web1.elf.zst'
      crash vmlinux-6.1.0-56-cloud-amd64 vmcore-web1-3f2a9c01b7d4.elf
    """
    wanted = choose_format(file_format, compression)
    piped = is_piped(output, as_json=as_json)
    with source.open(jobs) as catalog:
        record = catalog.show(dump_id)
        target = choose_target(None if piped else output, record, wanted.format)
        with fetch_progress() as progress:
            how = Transfer(transfer)
            deliver = partial(pour, progress=progress) if piped else None
            fetched = fetch(
                catalog, record, target, progress, jobs=jobs, force=force, output=wanted, transfer=how, deliver=deliver
            )
        record = look_again(catalog, record, fetched)
    return report(fetched, record, wanted.format, as_json=as_json, piped=piped)


def choose_format(file_format: str, compression: str | None) -> Output:
    """What to write. Raises click.UsageError."""
    if compression is not None and file_format != Format.KDUMP:
        raise click.UsageError("--compression goes with --format kdump only")
    return Output(Format(file_format), Compression(compression or Compression.ZLIB))


def look_again(catalog: Catalog, record: DumpRecord, fetched: Fetched) -> DumpRecord:
    """The record of the dump, with totals if it has become complete since it was looked up."""
    if fetched.plan.complete and record.totals is None:
        try:
            return catalog.show(record.id)
        except NetdumpError as error:  # the file is there, whatever has become of the collector
            warn(f"whether any page of it is lost is not known: {error}")
    return record


def report(fetched: Fetched, record: DumpRecord, wanted: Format, *, as_json: bool, piped: bool = False) -> int:
    """Say what was fetched. piped: it went to standard output, where nothing else may go. Returns the exit status."""
    plan = fetched.plan
    path = "standard output" if piped else str(fetched.path)
    if piped:
        warn(f"{figures(fetched, record)}: {path}")
    elif as_json:
        print_json(fetched_json(fetched, record, wanted))
    else:
        click.echo(summary(fetched, record, wanted))
    if not piped:
        warn_of_modes(fetched.path)
    if plan.complete:
        if lost := state_bytes(record, PageState.LOST):
            warn(
                f"PAGES ARE LOST: the host could not read {exact_size_text(lost)} of its memory, which "
                f"{LOST_LOOKS[wanted]} in {path}; `netdump pages {plan.id[:12]} --list lost` says which"
            )
        return 0
    part = f"{path} holds the image up to byte {plan.offset:,} of {plan.image_bytes:,}"
    if record.state is State.DAMAGED:
        warn(
            f"THE DUMP IS DAMAGED at the collector ({record.remark or ''}): {part}, every page verified, "
            f"but not that this is all; see `netdump verify {plan.id[:12]}`"
        )
        return DamagedError.exit_status
    missing = "its host has not confirmed it"
    if plan.offset < plan.image_bytes:
        missing = "what follows " + ("is to come" if record.state is State.ARRIVING else "was never received")
    warn(
        f"THE DUMP IS NOT COMPLETE (it is {record.state.value}): {part}; {missing}. "
        f"Pages that its host could not read {LOST_LOOKS[wanted]}: `netdump pages {plan.id[:12]} --list lost`"
    )
    return IncompleteDumpError.exit_status


def warn_of_modes(path: Path) -> None:
    """Say so where other users may do anything with the file. Not if it cannot be asked: it may have been moved."""
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            warn(
                f"{path} is open to other users of this machine: its file system keeps no permissions; "
                "mount it with umask=077, or keep the file elsewhere"
            )


def choose_target(output: str | None, record: DumpRecord, wanted: Format) -> Path:
    """The file to write. Raises click.BadParameter when its folder is not there."""
    if output == "":
        raise click.BadParameter("the name is empty: is a variable not set?", param_hint="-o")
    target = Path(default_name(record, wanted) if output is None else output)
    if os.path.isdir(target):  # which raises nothing
        target /= default_name(record, wanted)
    try:
        target = target.absolute()
    except FileNotFoundError:
        raise click.BadParameter("the current folder is gone: name a file elsewhere", param_hint="-o") from None
    folder = output if output is not None and output.endswith("/") else target.parent
    if not os.path.isdir(folder):
        raise click.BadParameter(f"the folder {folder} is not there, or closed to you", param_hint="-o")
    return target


def summary(fetched: Fetched, record: DumpRecord, wanted: Format) -> str:
    """One line: figures, path, and how to open it."""
    path = printable(shlex.quote(str(fetched.path)))
    use = f"open it with: crash VMLINUX {path}"
    if wanted is Format.ZST:  # zstd makes up the name of what is unpacked from this suffix alone
        use = f"unpack it with: zstd -d {path}"
        if fetched.path.suffix != ".zst":
            use += f" -o {printable(shlex.quote(f'{fetched.path}.elf'))}"
    return f"{figures(fetched, record)}: {printable(str(fetched.path))}; {use}"


def figures(fetched: Fetched, record: DumpRecord) -> str:
    """Size, time, rate, what the filter left out, and root."""
    rate = size_text(int(fetched.bytes / max(fetched.seconds, 0.001)))
    root = f"root {fetched.plan.root}" if fetched.plan.root is not None else "not complete, so without root"
    excluded = state_bytes(record, PageState.EXCLUDED)
    filtered = f", {size_text(excluded)} of the image excluded by its filter" if excluded else ""
    return (
        f"{exact_size_text(fetched.bytes)} in {duration_text(fetched.seconds)} ({rate}/s, "
        f"{size_text(fetched.transferred)} transferred{filtered}), "
        f"verified, {root}"
    )


def fetched_json(fetched: Fetched, record: DumpRecord, wanted: Format) -> dict[str, object]:
    """The public object."""
    return {
        "id": record.id,
        "host": record.host,
        "path": str(fetched.path),
        "format": wanted.value,
        "complete": fetched.plan.complete,
        "bytes": fetched.bytes,
        "image_bytes": fetched.plan.image_bytes,
        "transferred_bytes": fetched.transferred,
        "seconds": round(fetched.seconds, 3),
        "root": fetched.plan.root,
        "lost_bytes": state_bytes(record, PageState.LOST),
        "excluded_bytes": state_bytes(record, PageState.EXCLUDED),
    }


def state_bytes(record: DumpRecord, state: PageState) -> int | None:
    """Of the image, bytes in that state. None: not known, as of a dump that is not complete."""
    return None if record.totals is None else record.totals.get(state.name.lower())
