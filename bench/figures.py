"""What budgets.toml speaks of, read off the tables and from nowhere else: so no goal can contradict the table above it.

Numbers are taken as they are printed, rounded as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.report import Table

_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?|inf")
_OURS: Final = "**netdump"
LOADED_CLIENTS: Final = "8"  # of the ingest table's rows the one that the goals are for


def figures(tables: Iterable[Table]) -> dict[str, float]:
    """Every figure that these tables hold, by its name in budgets.toml."""
    found: dict[str, float] = {}
    peaks: list[float] = []
    for table in tables:
        if "to the best peer" in table.header:
            found[f"{table.key}.ratio"] = _share(table)
        if table.key.startswith("upload."):
            peaks.append(_ours(table, "peak MiB"))
        if table.key.startswith("limit."):
            found[f"{table.key}.share"] = _row(table, "**sum")[1] / _row(table, "netdump send")[1]
        if table.key in _OTHERS:
            found |= _OTHERS[table.key](table)
        if table.key in {"scale", "linear"}:
            peaks += _column(table, "client peak")
    if peaks:
        found["client.peak_mib"] = max(peaks)
    return found


def _share(table: Table) -> float:
    """Of fetch the goal is for scp, whoever is the best."""
    share = _ours(table, "to the best peer")
    if not table.key.startswith("fetch"):
        return share
    return share / _row(table, "scp")[table.header.index("to the best peer")]


def _filter(table: Table) -> dict[str, float]:
    ours, theirs = table.header.index("ns a page"), table.header.index("makedumpfile ns a page")
    ratios = [_number(row[ours]) / _number(row[theirs]) for row in table.rows if _NUMBER.search(row[theirs])]
    return {"filter.ratio": max(ratios), "filter.peak_mib": max(_column(table, "peak MiB"))}


def _vast(table: Table) -> dict[str, float]:
    return {"client.vast_peak_mib": max(_column(table, "peak MiB"))}


def _scale(table: Table) -> dict[str, float]:
    client, far = _column(table, "client peak"), _column(table, "collector peak")
    return {"scale.client_growth": client[-1] / client[0], "scale.collector_growth": far[-1] / far[0]}


def _linear(table: Table) -> dict[str, float]:
    """What a MiB of data more takes over the last step, as a multiple of what it took over all steps before."""
    data = _column(table, "data")
    found = []
    for name in ("send", "reassembly", "verify", "fetch"):
        times = _column(table, name)
        before = (times[-2] - times[0]) / (data[-2] - data[0])
        after = (times[-1] - times[-2]) / (data[-1] - data[-2])
        found.append(after / before if before > 0 else float("inf"))
    return {"scale.linearity": max(found)}


def _compression(table: Table) -> dict[str, float]:
    rows = [[_number(cell) for cell in row[1:]] for row in table.rows]
    return {"adaptive.worst": max(adaptive / min(fixed) for adaptive, *fixed in rows)}


def _ingest(table: Table) -> dict[str, float]:
    """Of each kind of chunks the worst of all rows; of acknowledgements the worst with LOADED_CLIENTS."""
    kind, loop, p99 = map(table.header.index, ("chunks", "loop CPU s per wire GB", "ack p99 ms"))
    found = {"collector.ack_p99_ms": max(_number(row[p99]) for row in table.rows if row[0] == LOADED_CLIENTS)}
    for name, figure in (("stored", "stored"), ("zstd level 1", "zstd1")):
        worst = max(_number(row[loop]) for row in table.rows if row[kind] == name)
        found[f"collector.{figure}.wire_gb_per_core_s"] = 1 / worst
    return found


def _fleet(table: Table) -> dict[str, float]:
    headline = _row(table, "headline durable")
    return {
        f"{table.key}.headline_s": headline[-1],
        f"{table.key}.late_s": _row(table, "admitted later")[-1],
        f"{table.key}.lost": _row(table, "hosts")[1] - _row(table, "delivered")[1],
    }


def _holdings(table: Table) -> dict[str, float]:
    """The last row beside the first: what is done with all dumps by the dump, what is done with some as it is."""
    more = _column(table, "dumps")[-1] / _column(table, "dumps")[0]
    grown = {name: _column(table, name)[-1] / _column(table, name)[0] for name in ("start", "list of all", "show")}
    return {
        "holdings.all_growth": max(grown["start"], grown["list of all"]) / more,
        "holdings.one_growth": grown["show"],
    }


_OTHERS: Final[Mapping[str, Callable[[Table], dict[str, float]]]] = {
    "filter": _filter,
    "vast": _vast,
    "scale": _scale,
    "linear": _linear,
    "compression": _compression,
    "ingest": _ingest,
    "fleet": _fleet,
    "herd": _fleet,
    "holdings": _holdings,
}


def _ours(table: Table, column: str) -> float:
    return _row(table, _OURS)[table.header.index(column)]


def _column(table: Table, name: str) -> list[float]:
    where = table.header.index(name)
    return [_number(row[where]) for row in table.rows if _NUMBER.search(row[where])]


def _row(table: Table, name: str) -> list[float]:
    """The numbers of the first row whose name begins so; of a cell with several the last. [0] is not used."""
    row = next(row for row in table.rows if row[0].startswith(name))
    return [0.0, *(_number(cell) for cell in row[1:])]


def _number(cell: str) -> float:
    """The last number of a cell; nan where there is none."""
    found = _NUMBER.findall(cell)
    return float(found[-1].replace(",", "")) if found else float("nan")
