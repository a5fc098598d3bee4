"""`netdump verify`: check that a dump is what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netdump.cli.output import exact_size_text, print_json, printable, warn
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import BusyError, DamagedError
from netdump.store.layout import MANIFEST

if TYPE_CHECKING:
    from netdump.cli.reading import Source
    from netdump.store.findings import Report


@click.command(
    "verify",
    short_help="Check that a stored dump is what it was.",
    epilog=exit_statuses(DamagedError, BusyError),
)
@click.argument("dump_id", metavar="ID")
@reading_options
def command(*, source: Source, dump_id: str, as_json: bool) -> int:
    """Read and check all that is stored of the dump ID.

    Every segment is decompressed and every page digest, segment, the root digest, the headline, the receipt's statement
    and the restored vmcore are checked; damage is listed, file by file, and the dump is then shown as `damaged`. It is
    done where the dump lies: from afar the collector does it, and the answer comes when it is through. Nothing stored
    is changed, except that a damaged vmcore of a sound dump is made again from the segments.

    With --json the object has the members `id`, `ok`, `complete`, `segments`, `chunks`, `image_bytes` (verified) and
    `findings`, a list of objects with `damage`, `file`, `position` and `text`; `more` counts those beyond the list.
    `vmcore` is null, or such an object for a damaged vmcore, with `remade`: whether it could be made again.

    \b
    Examples:
      netdump verify 3f2a
      netdump verify 3f2a --root /srv/netdump --json
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        report = catalog.verify(record.id)
    if as_json:
        print_json(report.as_json())
    else:
        show(report, has_vmcore=record.vmcore)
    return 0 if report.ok else DamagedError.exit_status


def show(report: Report, *, has_vmcore: bool = False) -> None:
    """Print a report for people. has_vmcore: whether the dump was restored before it was verified."""
    covered = (
        f"{exact_size_text(report.image_bytes)} of image in {report.chunks:,} chunks, {report.segments:,} segments"
    )
    if report.ok:
        state = "complete and sound" if report.complete else "sound as far as it has come"
        click.echo(f"dump {report.id} is {state}: {covered}")
        if report.view is not None:
            end = "has been made again" if report.remade else "is gone: there is no room for it, or the dump is in use"
            warn(f"its vmcore was damaged and {end}; the dump itself is not affected: {report.view}")
        return
    for finding in report.findings:
        click.echo(printable(str(finding)))
    if report.more:
        click.echo(f"… and {report.more:,} more")
    advice = f"keep a copy of its folder, `netdump delete {report.id}`, then have the host send it again"
    if all(finding.file == MANIFEST for finding in report.findings):
        advice = f"`netdump fetch {report.id[:12]}` still brings all of that; {advice}, or put back its {MANIFEST}"
    elif has_vmcore and report.view is None:
        advice += "; where it cannot, take the vmcore of that copy, which was made while all of the dump was sound"
    warn(f"dump {report.id} is DAMAGED; sound are {covered}: {advice}")
