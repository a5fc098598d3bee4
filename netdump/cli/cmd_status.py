"""`netdump status`: how a collector is."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netdump.cli.output import duration_text, print_facts, print_json, printable, share_text, size_text
from netdump.errors import OutputError, TroubledError
from netdump.index.record import TIME_MAX, time_text
from netdump.server.status import inspect

if TYPE_CHECKING:
    from netdump.server.status import Report, Status

NUMBERS = ("pid", "version", "ingest", "api", "dumps", "stored_bytes", "free_bytes", "total_bytes", "events")


@click.command("status", short_help="Show how a collector is, and what needs attention.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print an object; `troubles` is the list of what is wrong.")
@click.option(
    "--metrics",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the numbers to FILE (-: print them) as Prometheus and node_exporter read them, and end with 0.",
)
def command(directory: Path, metrics: Path | None, *, as_json: bool) -> int:
    """Show how the collector whose folder is DIR is. Run it on the same machine, as its user or as root.

    A collector writes once a minute to DIR/serve.json how it is; this shows that, looks whether it runs at all, and
    asks it nothing. Below the numbers stands what needs attention, a line each, by topic:

    \b
      running      no collector runs, or it has said nothing for three minutes
      clock        its clock cannot be right
      certificate  its own or its authority's comes to its end
      upkeep       something is not looked after
      space        too little room: new dumps are told to come back
      store        the disk fails: hosts are told to come back
      index        dumps are received, but cannot be listed
      damage       dumps are damaged
      scrub        more is stored than it can check in the time

    Ends with status 0 if there is nothing, 74 if there is something; with --metrics with 0 in both cases.

    \b
    Examples:
      netdump status /srv/netdump
      netdump status /srv/netdump --json
      netdump status /srv/netdump --metrics /var/lib/prometheus/node-exporter/netdump.prom

    See also: netdump serve, netdump list, docs/fleet.md.
    """
    if metrics is not None and as_json:
        raise click.UsageError("--metrics and --json exclude each other: numbers for Prometheus, or an object")
    if metrics is not None and not metrics.name:
        raise click.BadParameter("it has no name", param_hint="--metrics")
    report = inspect(directory, int(time.time()))
    if metrics is not None:
        _give(metrics, report)
        return 0
    if as_json:
        print_json(_fields(report))
    else:
        _print(report)
    return TroubledError.exit_status if report.troubles else 0


def _print(report: Report) -> None:
    if report.status is not None:
        print_facts(_facts(report.status, int(time.time())))
    for topic, fact in report.troubles:
        click.echo(f"{click.style(topic, fg='red')}: {printable(fact)}")
    if not report.troubles:
        click.echo(click.style("all is well", fg="green"))


def _facts(status: Status, now: int) -> list[tuple[str, str]]:
    facts = [
        ("runs since", f"{_time(status.started)} ({duration_text(max(0, now - status.started))})"),
        ("version", f"{status.version}, process {status.pid}"),
        ("listens at", f"{status.ingest} for dumps, {status.api} for the rest"),
    ]
    if status.dumps is not None and status.stored_bytes is not None:
        counts = ", ".join(f"{count:,} {state}" for state, count in status.dumps.items() if count)
        facts.append(("dumps", f"{counts}; {size_text(status.stored_bytes)}" if counts else "none"))
    if status.free_bytes is not None and status.total_bytes is not None:
        share = share_text(status.free_bytes, max(1, status.total_bytes))
        facts.append(("room", f"{size_text(status.free_bytes)} of {size_text(status.total_bytes)} are free ({share})"))
    return facts


def _fields(report: Report) -> dict[str, Any]:
    status = report.status
    return {
        "well": not report.troubles,
        "troubles": [{"topic": topic, "fact": fact} for topic, fact in report.troubles],
        "started": None if status is None else _time(status.started),
        "written": None if status is None else _time(status.written),
        **{name: None if status is None else getattr(status, name) for name in NUMBERS},
    }


def _time(seconds: int) -> str:
    return time_text(min(seconds, TIME_MAX)) or ""


def _give(place: Path, report: Report) -> None:
    """Put the numbers where they are wanted: whole or not at all, and so that any user can read them."""
    from netdump.server.metrics import exposition  # noqa: PLC0415 - the other ways do without its library

    text = exposition(report)
    if str(place) == "-":
        click.echo(text, nl=False)
        return
    try:
        _replace(place, text)
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}") from error


def _replace(place: Path, text: bytes) -> None:
    """Raises OSError; OutputError if something else than a file has that name: root would replace /dev/null as well.

    The folder may be another user's than root's who runs this, so no link in it is followed.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(place.lstat().st_mode):
            raise OutputError(
                f"{place} is not a file, and is never replaced: choose another name; "
                "into a pipe or a device goes `--metrics - > NAME`"
            )
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of one that was killed
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        draft.rename(place)
    finally:
        draft.unlink(missing_ok=True)
