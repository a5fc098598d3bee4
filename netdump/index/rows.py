"""Rows of an index as records, and back: what each says, that it is what was written, and the order of lists.

Owns the seal of a row, and what SQLite's own entries must agree with. Opens no transactions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, delete, insert, literal_column, select

from netdump.index.record import DumpRecord, State
from netdump.index.schema import DUMPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection, Select

_FIELDS: Final = tuple(field.name for field in fields(DumpRecord))

KEY: Final = DUMPS.alias("key")
ORDER: Final = (KEY.c.first_seen, KEY.c.order_ns, KEY.c.id)


def find(connection: Connection, dump_id: str) -> DumpRecord | None:
    """The record of a dump; None without a row. Raises ValueError for a row that is not as it was written."""
    row = connection.execute(select(DUMPS).where(DUMPS.c.id == dump_id)).first()
    return None if row is None else record_of(row._mapping)  # public in spite of its name


def in_order(host: str | None) -> Select[Any]:
    """Rows, newest first, each beside the entry of SQLite's own index that leads to it. host: None is any.

    SQLite believes that entry, whatever the row says: one wrong bit lists a dump twice and another not at all. The
    entry is read from there alone (both indexes hold all of the key), and stays where it leads to no row.
    """
    place: ColumnElement[int] = literal_column("dumps.rowid")
    rows = KEY.outerjoin(DUMPS, literal_column("key.rowid") == place)
    entry = (column.label(f"key_{column.name}") for column in ORDER)
    wanted = select(*entry, DUMPS).select_from(rows).order_by(*(column.desc() for column in ORDER))
    if host is None:
        return wanted
    return wanted.add_columns(KEY.c.host.label("key_host")).where(KEY.c.host == host)


def record_listed(row: Row[Any]) -> DumpRecord:
    """What a row of `in_order` says. Raises ValueError also for one to which the entry of another has led."""
    values = dict(row._mapping)  # public in spite of its name
    entry = {name: values.pop(name) for name in row._fields if name.startswith("key_")}
    if any(value != values[name.removeprefix("key_")] for name, value in entry.items()):
        raise ValueError(f"the entry for dump {entry['key_id']!r} leads to {values['id']!r}")
    return record_of(values)


def put_row(connection: Connection, record: DumpRecord) -> None:
    """Write a row in the place of an older one. What that says of the last check is kept unless record knows one."""
    if record.checked is None:
        checked = connection.scalar(select(DUMPS.c.checked).where(DUMPS.c.id == record.id))
        record = replace(record, checked=checked if isinstance(checked, int) else None)
    connection.execute(delete(DUMPS).where(DUMPS.c.id == record.id))
    connection.execute(insert(DUMPS).values(row_of(record)))


def row_of(record: DumpRecord) -> dict[str, Any]:
    """The row of a record, sealed."""
    row = {name: getattr(record, name) for name in _FIELDS}
    row["state"] = record.state.value
    row["totals"] = None if record.totals is None else dict(record.totals)
    row["excluded"] = dict(record.excluded)
    return {**row, "seal": _seal(row)}


def order(record: DumpRecord) -> tuple[int, int, str]:
    """By what lists are sorted: the newest dump has the greatest."""
    return record.first_seen, record.order_ns, record.id


def record_of(row: Mapping[Any, Any]) -> DumpRecord:
    """What a row says. Raises ValueError for one that is not as it was written: SQLite has no checksums of its own."""
    values = dict(row)
    if values.pop("seal") != _seal(values):
        raise ValueError(f"the row of dump {values['id']!r} is not what was written")
    values["state"] = State(values["state"])
    return DumpRecord(**values)


def _seal(row: Mapping[str, Any]) -> str:
    """A digest of the other columns."""
    text = json.dumps(row, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
