"""`netdump fetch`: bring a dump to this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.cli.output import duration_text, exact_size_text, fetch_progress, print_json, printable, size_text, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import (
    AlreadyExistsError,
    BusyError,
    DamagedError,
    IncompleteDumpError,
    StorageFaultError,
)
from netdump.remote.fetch import JOBS_DEFAULT, JOBS_MAX, default_name, fetch

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.index.record import DumpRecord
    from netdump.remote.fetch import Fetched


@click.command(
    "fetch",
    short_help="Bring a dump to this machine, verified, as a core file.",
    epilog=exit_statuses(DamagedError, IncompleteDumpError, BusyError, StorageFaultError, AlreadyExistsError),
)
@click.argument("dump_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write it; in a folder, under the default name.  [default: vmcore-HOST-ID.elf here]",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, JOBS_MAX),
    default=JOBS_DEFAULT,
    show_default=True,
    help="How many segments to fetch at a time.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@reading_options
def command(*, source: Source, dump_id: str, output: Path | None, jobs: int, force: bool, as_json: bool) -> int:
    """Bring the dump ID to this machine as a sparse ELF core, ready for crash, drgn and gdb.

    Compressed segments come in parallel; each page is verified by its digest, and all of them by the root digest of the
    dump, before the file gets its name. There is never a FILE that is not whole.

    Until then everything lies in FILE.netdump-partial. After any interruption (Ctrl-C, a lost network, a restart of the
    collector, a full disk, a power cut) the same command goes on with what is there. Nothing in that folder is
    believed: what is not sound is fetched again. To give up, remove the folder.

    Of a dump that is not complete, what has arrived is written to FILE.incomplete, which ends where the dump does; the
    exit status is then 44. The memory of a machine is secret: files are made for you alone to read (0600).

    With --json the object has the members `id`, `host`, `path`, `complete`, `bytes` (of the file), `image_bytes`,
    `transferred_bytes`, `seconds` and `root`.

    \b
    Examples:
      netdump fetch 3f2a
      netdump fetch 3f2a -o /var/crash/web1.elf --jobs 8
      crash /usr/lib/debug/boot/vmlinux-6.1.0-56-cloud-amd64 vmcore-web1-3f2a9c01b7d4.elf
    """
    with source.open(jobs) as catalog:
        record = catalog.show(dump_id)
        target = choose_target(output, record)
        with fetch_progress() as progress:
            fetched = fetch(catalog, record, target, progress, jobs=jobs, force=force)
    if as_json:
        print_json(fetched_json(fetched, record))
    else:
        click.echo(summary(fetched))
    if fetched.plan.complete:
        return 0
    warn(
        f"THE DUMP IS NOT COMPLETE (it is {record.state.value}): {printable(str(fetched.path))} ends at byte "
        f"{fetched.bytes:,} of {fetched.plan.image_bytes:,}; what follows was never received"
    )
    return IncompleteDumpError.exit_status


def choose_target(output: Path | None, record: DumpRecord) -> Path:
    """The file to write. Raises click.BadParameter when its folder is not there."""
    target = Path(default_name(record)) if output is None else output
    if target.is_dir():
        target /= default_name(record)
    target = target.absolute()
    if not target.parent.is_dir():
        raise click.BadParameter(f"the folder {target.parent} is not there", param_hint="-o")
    return target


def summary(fetched: Fetched) -> str:
    """One line: size, time, rate, root, path, and how to open it."""
    rate = size_text(int(fetched.bytes / max(fetched.seconds, 0.001)))
    root = f"root {fetched.plan.root}" if fetched.plan.root is not None else "not complete, so without root"
    return (
        f"{exact_size_text(fetched.bytes)} in {duration_text(fetched.seconds)} ({rate}/s, "
        f"{size_text(fetched.transferred)} transferred), verified, {root}: {printable(str(fetched.path))}; "
        f"open it with: crash VMLINUX {printable(shlex.quote(str(fetched.path)))}"
    )


def fetched_json(fetched: Fetched, record: DumpRecord) -> dict[str, object]:
    """The public object."""
    return {
        "id": record.id,
        "host": record.host,
        "path": str(fetched.path),
        "complete": fetched.plan.complete,
        "bytes": fetched.bytes,
        "image_bytes": fetched.plan.image_bytes,
        "transferred_bytes": fetched.transferred,
        "seconds": round(fetched.seconds, 3),
        "root": fetched.plan.root,
    }
