"""`netdump show`: all that is known of a dump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from netdump.analyze.panic import find_panic
from netdump.cli.output import exact_size_text, print_facts, print_json, print_text, share_text
from netdump.cli.reading import exit_statuses, reading_options
from netdump.errors import CertificateError, DamagedError
from netdump.index.record import State, dump_json, time_text

if TYPE_CHECKING:
    from netdump.analyze.panic import Panic
    from netdump.cli.reading import Source
    from netdump.index.record import DumpRecord

TAIL_LINES: Final = 12
LEAD_LINES: Final = 2
"""How many lines before the panic the end of the log is shown with."""


@click.command("show", short_help="Show all that is known of a dump.", epilog=exit_statuses())
@click.argument("dump_id", metavar="ID")
@reading_options
def command(*, source: Source, dump_id: str, as_json: bool) -> None:
    """Show all that is known of the dump ID.

    Whose it is, why the machine died, which kernel ran, how far the dump has come, what its pages are (data, zero,
    alias, excluded by the filter and why, lost because they could not be read), its root digest, whether the
    collector's signed receipt is good, and the part of the kernel log around the panic.

    Of a dump that arrives, the figures are those of this moment. With --json the object is the one that `netdump list`
    prints, with the members `receipt` (null, or `good`, `collector` and `problem`) and `log_tail` (a list of lines).

    \b
    Examples:
      netdump show 3f2a
      netdump show 3f2a --json | jq .totals
    """
    with source.open() as catalog:
        record = catalog.show(dump_id)
        log = catalog.log(record.id)
        document = catalog.receipt(record.id) if record.state is State.COMPLETE else None
    found = find_panic(log)
    lines = tail(log, found)
    receipt = None if document is None else judge(document, record, source)
    if as_json:
        text = [line.decode("utf-8", "replace") for line in lines]
        print_json({**dump_json(record), "receipt": receipt, "log_tail": text})
        return
    print_facts(facts(record, receipt))
    if lines:
        click.echo("\nkernel log, around the panic:" if found else "\nkernel log, its end:")
        print_text(b"\n".join(b"  " + line for line in lines))


def tail(log: bytes, panic: Panic | None) -> list[bytes]:
    """The lines around the panic if there is one, else the last ones."""
    lines = log.split(b"\n")
    if not lines[-1]:
        lines.pop()
    start = len(lines) - TAIL_LINES if panic is None else log.count(b"\n", 0, panic.position) - LEAD_LINES
    start = max(0, start)
    return lines[start : start + TAIL_LINES]


def judge(document: bytes, record: DumpRecord, source: Source) -> dict[str, object]:
    """What a receipt is worth: members good, collector, problem."""
    from netdump.pki.receipt import check_receipt  # noqa: PLC0415  # cryptography takes its time to load

    try:
        fields = check_receipt(document, source.authority())
    except (DamagedError, CertificateError) as error:
        return {"good": False, "collector": None, "problem": str(error)}
    if (fields.get("id"), fields.get("root")) != (record.id, record.root):
        return {"good": False, "collector": None, "problem": "the receipt is for another dump"}
    return {"good": True, "collector": fields.get("collector"), "problem": None}


def facts(record: DumpRecord, receipt: dict[str, object] | None) -> list[tuple[str, str]]:
    """Names and values to print; what is not known is left out."""
    crashed = time_text(record.crash_time)
    known = [
        ("dump", record.id),
        ("state", f"{record.state.value}{' (a drill: nothing crashed)' if record.drill else ''}"),
        ("remark", record.remark),
        ("host", record.host + (f" (calls itself {record.nodename})" if record.nodename else "")),
        ("panic", record.panic),
        ("kernel", " ".join(filter(None, (record.kernel_release, record.kernel_version, record.machine))) or None),
        ("taken" if record.drill else "crashed", crashed and f"{crashed} by the host's clock"),
        ("first seen", time_text(record.first_seen)),
        ("updated", time_text(record.updated)),
        ("completed", time_text(record.completed)),
        ("checked", time_text(record.checked)),
        ("image", f"{exact_size_text(record.image_bytes)}, pages of {record.page_bytes:,}, dump level {record.level}"),
        ("arrived", f"{share_text(record.durable_bytes, record.image_bytes)}, {exact_size_text(record.durable_bytes)}"),
        ("stored", f"{exact_size_text(record.stored_bytes)} in {record.chunks:,} chunks"),
        *_pages(record),
        ("root", record.root),
        ("receipt", _receipt(record, receipt)),
        ("vmcore", _vmcore(record)),
    ]
    return [(name, value) for name, value in known if value is not None]


def _pages(record: DumpRecord) -> list[tuple[str, str | None]]:
    if record.totals is None:
        return []
    shown: list[tuple[str, str | None]] = []
    for state, size in record.totals.items():
        text = f"{share_text(size, record.image_bytes)}, {exact_size_text(size)}" if size else "none"
        if state == "excluded" and record.excluded:
            text += ": " + ", ".join(f"{name} {size:,}" for name, size in record.excluded.items())
        shown.append((f"  {state}", text))
    return shown


def _receipt(record: DumpRecord, receipt: dict[str, object] | None) -> str | None:
    if receipt is None:
        return "none" if record.state is State.COMPLETE else None
    return f"good, signed by {receipt['collector']}" if receipt["good"] else f"NOT GOOD: {receipt['problem']}"


def _vmcore(record: DumpRecord) -> str | None:
    if record.state is State.DAMAGED and record.vmcore:
        return "restored at the collector while the dump was sound"
    if record.state is not State.COMPLETE:
        return None
    return "restored at the collector" if record.vmcore else "not restored at the collector; `netdump fetch` makes it"
