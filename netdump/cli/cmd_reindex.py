"""`netdump reindex`: make a collector's index anew."""

from __future__ import annotations

from pathlib import Path

import click

from netdump.cli.output import print_json, warn
from netdump.index.record import DumpRecord, State


@click.command("reindex", short_help="Make a collector's index anew from the stored dumps.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print an object: dumps (their number), damaged (ids).")
def command(*, directory: Path, as_json: bool) -> None:
    """Make the index of the collector whose folder is DIR anew, from nothing but the stored dumps.

    For an index that is damaged, lost, or of a newer version. The old one is not read; the new one takes its place
    whole, so that an interruption costs only a repetition; what is no file there, a folder for instance, is renamed to
    index.sqlite.damaged-N. The collector must not run meanwhile: stop it first. No dump is changed. Documents and the
    presence of all segments are checked, and dumps where something is missing are named on standard error; page data is
    not read, for which there is `netdump verify`.

    \b
    Example:
      systemctl stop netdump-collector; netdump reindex /srv/netdump; systemctl start netdump-collector

    \b
    Exit statuses (all of them: docs/errors.md):
       0  Done, also when damaged dumps were found.
      45  A collector or another command uses the index.
      46  The disk fails or is full.
      47  The index cannot be written.
      71  DIR is not a collector's folder.
    """
    from netdump.index.rebuild import reindex  # noqa: PLC0415  # needs the collector's libraries, --help does not

    damaged: list[DumpRecord] = []

    def note(record: DumpRecord) -> None:
        if record.state is State.DAMAGED:
            damaged.append(record)
            warn(f"dump {record.id} is damaged: {record.remark or ''}")

    count = reindex(directory, note)
    if as_json:
        print_json({"dumps": count, "damaged": [record.id for record in damaged]})
    else:
        dumps = "dump" if count == 1 else "dumps"
        click.echo(f"{count:,} {dumps} indexed" + (f", {len(damaged):,} damaged" if damaged else ""))
