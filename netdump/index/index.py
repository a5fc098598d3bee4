"""The index: an SQLite file with one row a dump, for several processes at once, all of it restorable from the store.

Owns the connection settings, transactions, migration at opening, and the meaning of database errors. Must not read the
store: what stands in a row is decided by `gather`. Methods may be called from several threads.

Beside `index.sqlite` lies `index.lock`: whoever has the index open holds a shared flock(2) on it, and who puts another
file in its place an exclusive one. SQLite finds its journal by name, so replacing a file that somebody has open
would let the two mix ("How To Corrupt An SQLite Database File", section 4.2 of sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from sqlalchemy import URL, Engine, Row, create_engine, delete, event, insert, literal_column, or_, select, tuple_
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from netdump.errors import BusyError, DumpNotFoundError, IndexFaultError, StorageFaultError, StoreError
from netdump.index.gate import Gate
from netdump.index.reading import LIST_LIMIT_MAX, Query
from netdump.index.record import DumpRecord, State, dump_json, was_unreadable
from netdump.index.schema import APPLICATION_ID, DUMPS, REVISION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import TracebackType

    from sqlalchemy import ColumnElement, Connection, Select

__all__ = ["BUSY_SECONDS", "LOCK_NAME", "NAME", "DumpRecord", "Index", "Query", "State", "dump_json"]

NAME: Final = "index.sqlite"
LOCK_NAME: Final = "index.lock"
COMPANIONS: Final = ("-journal",)
"""How the names of the files end that belong to an index."""

BUSY_SECONDS: Final = 10
"""How long a process waits for another one's transaction. All of ours are short."""

_PRAGMAS: Final = (
    f"busy_timeout={BUSY_SECONDS * 1000}",  # first: the next one may meet another process
    # No write-ahead log: its index is mapped into memory, and on a full disk the kernel would kill us (SIGBUS) for a
    # write to a page that has no block yet. Readers and writers wait for each other instead, for milliseconds.
    "journal_mode=TRUNCATE",
    "synchronous=FULL",  # an answer is durable
    "cell_size_check=ON",
    "trusted_schema=OFF",
)

_FIELDS: Final = tuple(field.name for field in fields(DumpRecord))
_KEY: Final = DUMPS.alias("key")
_ORDER: Final = (_KEY.c.first_seen, _KEY.c.order_ns, _KEY.c.id)


class Index:
    """An open index. Made by `open`; a context manager."""

    __slots__ = ("_engine", "_gate", "_lock", "_path")

    def __init__(self, path: Path, engine: Engine, lock: int) -> None:
        self._path = path
        self._engine = engine
        self._lock = lock
        self._gate = Gate()

    @classmethod
    def open(cls, path: Path) -> Index:
        """Open the index at that path; make it, or bring it to this version, if need be.

        Raises IndexFaultError (damaged, foreign, of a newer version, not writable), BusyError (another process rebuilds
        it, or works on it for too long), StorageFaultError.
        """
        lock = take_lock(path, fcntl.LOCK_SH, "is being rebuilt; try again in a moment")
        try:
            with _faults(path):
                _make(path)
            return cls(path, _engine(path), lock)._ready()
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def in_memory(cls, path: Path) -> Index:
        """A copy of the index at that path that ends with the process: for a folder in which nothing can be written.

        Empty if there is none, or it is damaged. For one thread.
        """
        index = cls(Path(":memory:"), _engine(Path(":memory:")), -1)
        try:
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            with closing(sqlite3.connect(uri, uri=True)) as source, index._engine.connect() as connection:
                source.backup(cast("sqlite3.Connection", connection.connection.driver_connection))
            index._ready().check()
            index.list(Query(limit=LIST_LIMIT_MAX))
        except (sqlite3.Error, IndexFaultError):
            index.close()
            return cls(Path(":memory:"), _engine(Path(":memory:")), -1)._ready()
        return index

    def _ready(self) -> Self:
        """Bring it to this version. Gives the engine back if that fails."""
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise
        return self

    def close(self) -> None:
        """Give everything back. The object cannot be used after that."""
        self._engine.dispose()
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, record: DumpRecord) -> None:
        """Write the whole row of a dump, new or not. What it says of the last check is kept unless record knows one."""
        with self._write() as connection:
            _replace(connection, record)

    def renew(self, record: DumpRecord) -> None:
        """As put; but a dump that was found damaged does not become sound by a look at its documents.

        Whoever found the damage may have done so while the record was gathered.
        """
        with self._write() as connection:
            before = _find(connection, record.id)
            settled = record.state in {State.COMPLETE, State.INTERRUPTED}
            damaged = before is not None and before.state is State.DAMAGED and not was_unreadable(before.remark)
            if before is not None and damaged and settled:
                record = replace(record, state=State.DAMAGED, remark=before.remark)
            _replace(connection, record)

    def add(self, records: Iterable[DumpRecord]) -> None:
        """Write the rows of dumps that have none yet; leave the others alone."""
        with self._write() as connection:
            known = set(connection.scalars(select(DUMPS.c.id)))
            rows = [_row(record) for record in records if record.id not in known]
            if rows:
                connection.execute(insert(DUMPS), rows)

    def advance(self, dump_id: str, *, durable_bytes: int, stored_bytes: int, chunks: int, updated: int) -> None:
        """Note that more of a dump has become durable. It is then arriving. Nothing happens without a row."""
        self._change(
            dump_id,
            state=State.ARRIVING,
            durable_bytes=durable_bytes,
            stored_bytes=stored_bytes,
            chunks=chunks,
            updated=updated,
        )

    def set_state(self, dump_id: str, state: State, remark: str | None = None) -> None:
        """Note another state. remark: kept as it is if None. Nothing happens without a row."""
        if remark is None:
            self._change(dump_id, state=state)
        else:
            self._change(dump_id, state=state, remark=remark)

    def set_checked(self, dump_id: str, when: int) -> None:
        """Note when all of a dump was checked. Nothing happens without a row."""
        self._change(dump_id, checked=when)

    def check(self) -> None:
        """Have SQLite look at the whole file. Raises IndexFaultError (damaged)."""
        with self._read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        if found != "ok":
            raise IndexFaultError(f"the index {self._path} is damaged ({found}); {self._remedy()}", damaged=True)

    def mend(self) -> str:
        """Take out what is damaged, for who can fill it in again; what was done, for a log.

        That is the rows that are not as they were written, or all: a file that SQLite cannot make sense of is set
        aside, and an empty one takes its place. Raises BusyError (it is damaged, and another process has it open),
        IndexFaultError (it is a copy in memory), StorageFaultError.
        """
        try:
            self.check()
            dropped = self._drop_damaged()
        except IndexFaultError as error:
            if not error.damaged or self._lock < 0:
                raise
            return f"a new index takes the place of the damaged one, which is now {self._start_anew()}"
        return f"{dropped} damaged rows were taken out of the index"

    def _drop_damaged(self) -> int:
        """Delete the rows that are not as they were written; how many that were."""
        place: ColumnElement[int] = literal_column("rowid")
        bad = []
        with self._write() as connection:
            for number in connection.scalars(select(place).select_from(DUMPS)).all():
                try:
                    _record(connection.execute(select(DUMPS).where(place == number)).one()._mapping)
                except (SQLAlchemyError, ValueError, TypeError):
                    bad.append(number)
            connection.execute(delete(DUMPS).where(place.in_(bad)))
        return len(bad)

    def _start_anew(self) -> str:
        """Set the file aside and begin another; the name that it has now."""
        with self._gate.alone():
            self._engine.dispose()
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with _faults(self._path):
                    aside = put_aside(self._path)
                    os.close(open_own(self._path))
            except BlockingIOError:
                raise BusyError(f"the index {self._path} is damaged, and in use by another netdump command") from None
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._ready()
        return aside.name

    def remove(self, dump_id: str) -> None:
        """Forget a dump, if it was known."""
        with self._write() as connection:
            connection.execute(delete(DUMPS).where(DUMPS.c.id == dump_id))

    def get(self, dump_id: str) -> DumpRecord | None:
        """The record of a dump (whole id); None if there is none."""
        with self._read() as connection:
            return _find(connection, dump_id)

    def ids(self) -> set[str]:
        """The ids of all dumps that are known."""
        with self._read() as connection:
            return set(connection.scalars(select(DUMPS.c.id)))

    def assert_unknown(self, dump_ids: Iterable[str]) -> None:
        """What follows from a list that lacks these dumps. Raises IndexFaultError (damaged) if one has a row."""
        with self._read() as connection:
            for dump_id in dump_ids:
                if _find(connection, dump_id) is not None:
                    raise ValueError(f"the row of dump {dump_id!r} was passed over")

    def list(self, query: Query | None = None, also: Collection[State] = ()) -> list[DumpRecord]:
        """The dumps that a query asks for, newest first. also: states to list besides the query's."""
        query = query or Query()
        wanted = _in_order(query.host).limit(min(query.limit, LIST_LIMIT_MAX))
        if query.since is not None:
            wanted = wanted.where(_KEY.c.first_seen >= query.since)
        if query.drill is not None:
            wanted = wanted.where(or_(DUMPS.c.id.is_(None), DUMPS.c.drill == query.drill))
        if query.state is not None:
            states = {query.state, *also}
            wanted = wanted.where(or_(DUMPS.c.id.is_(None), DUMPS.c.state.in_([state.value for state in states])))
        edge = select(DUMPS.c.first_seen, DUMPS.c.order_ns, DUMPS.c.id).where(DUMPS.c.id == query.before)
        if query.before is not None:
            wanted = wanted.where(tuple_(*_ORDER) < edge.scalar_subquery())
        with self._read() as connection:
            if query.before is not None and connection.execute(edge).first() is None:
                raise DumpNotFoundError(f"there is no dump {query.before} to go on from; list again from the start")
            listed = [_listed(row) for row in connection.execute(wanted)]
            for former, latter in pairwise(listed):
                if _order(former) <= _order(latter):
                    raise ValueError(f"dump {latter.id!r} stands out of order")
            return listed

    def _change(self, dump_id: str, **values: Any) -> None:
        with self._write() as connection:
            record = _find(connection, dump_id)
            if record is not None:
                _replace(connection, replace(record, **values))

    def _migrate(self) -> None:
        with self._read() as connection:
            if _revision(connection) == REVISION:
                return
        with self._write() as connection:
            # Another process may have been faster: look again, now that nobody else can write.
            found = _revision(connection)
            if found == REVISION:
                return
            if found is not None and not found < REVISION:
                raise IndexFaultError(f"{self._path} was made by a newer netdump (schema {found}); {self._remedy()}")
            _upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")

    def _remedy(self) -> str:
        return _remedy(self._path)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._gate.shared(), _faults(self._path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        # IMMEDIATE takes the write lock at once: a transaction that reads first could not wait for it later.
        with self._gate.shared(), _faults(self._path), self._engine.connect() as connection:
            connection.execution_options(netdump_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection


def _make(path: Path) -> None:
    """Make the file of an index if it is not there. Raises ValueError if there is something else, OSError.

    SQLite would make it readable for everybody; its other files take owner and mode of this one.
    """
    if not is_plain(path):
        raise ValueError("it is no plain file")
    os.close(open_own(path))


def is_plain(path: Path) -> bool:
    """Whether index and journal at that path are files, or not there. Raises OSError."""
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.with_name(path.name + suffix).lstat().st_mode):
                return False
    return True


def put_aside(path: Path) -> Path:
    """Give a damaged index, with its journal, another name, and return that. For who has it alone. Raises OSError."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{NAME}.damaged-{number}")):
        number += 1
    for suffix in ("", *COMPANIONS):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def take_lock(path: Path, kind: int, why: str) -> int:
    """A descriptor that holds a flock on the lock beside an index, for the caller to close.

    kind: LOCK_SH or LOCK_EX of fcntl. Raises BusyError with why, IndexFaultError.
    """
    with _faults(path):
        descriptor = open_own(path.with_name(LOCK_NAME))
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(f"the index {path} {why}") from None
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def open_own(path: Path) -> int:
    """Open a file of the collector's folder for writing, made if it is not there, for the owner only. Raises OSError.

    The owner is that of the folder: what root makes there in passing must not keep the collector out.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != folder.st_uid:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remedy(path: Path) -> str:
    return f"make it anew from the stored dumps: netdump reindex {path.parent}"


def _engine(path: Path) -> Engine:
    """An engine whose transactions are SQLite's own, not those of the sqlite3 module, which would commit before DDL."""
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        # Tables first: whoever makes them sets the id in the same transaction, perhaps just now.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise IndexFaultError(f"{path} is a database of another program; move it away and {_remedy(path)}")
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("netdump_begin", "BEGIN"))

    return engine


def _revision(connection: Connection) -> str | None:
    """The schema revision that a database has; None for a new one."""
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'").scalar()
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if tables else None


def _upgrade(connection: Connection) -> None:
    # Alembic takes 0.2 s to load, and hardly ever has anything to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "netdump.index:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ValueError(f"its schema is none of ours: {error}") from error


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn database errors of the block into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _fault(path, error.orig) from error
    except sqlite3.Error as error:
        raise _fault(path, error) from error
    except OSError as error:
        raise IndexFaultError(
            f"the index {path} cannot be opened: {error.strerror or error}; check its owner"
        ) from error
    except (SQLAlchemyError, ValueError, TypeError) as error:
        # A row whose JSON, state or type is not what the schema promises: the file was changed by something else.
        raise IndexFaultError(f"the index {path} is damaged ({error}); {_remedy(path)}", damaged=True) from error


def _fault(path: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary code; the rest only details it
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return BusyError(f"the index {path} is locked by another process; try again in a moment")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StorageFaultError(f"the index {path} cannot be written ({error}); check the disk and its free space")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return IndexFaultError(f"the index {path} cannot be opened for writing ({error}); run this as its owner")
    return IndexFaultError(f"the index {path} is damaged ({error}); {_remedy(path)}", damaged=True)


def _find(connection: Connection, dump_id: str) -> DumpRecord | None:
    row = connection.execute(select(DUMPS).where(DUMPS.c.id == dump_id)).first()
    return None if row is None else _record(row._mapping)  # public in spite of its name


def _in_order(host: str | None) -> Select[Any]:
    """Rows, newest first, each beside the entry of SQLite's own index that leads to it. host: None is any.

    SQLite believes that entry, whatever the row says: one wrong bit lists a dump twice and another not at all. The
    entry is read from there alone (both indexes hold all of the key), and stays where it leads to no row.
    """
    place: ColumnElement[int] = literal_column("dumps.rowid")
    rows = _KEY.outerjoin(DUMPS, literal_column("key.rowid") == place)
    entry = (column.label(f"key_{column.name}") for column in _ORDER)
    wanted = select(*entry, DUMPS).select_from(rows).order_by(*(column.desc() for column in _ORDER))
    if host is None:
        return wanted
    return wanted.add_columns(_KEY.c.host.label("key_host")).where(_KEY.c.host == host)


def _listed(row: Row[Any]) -> DumpRecord:
    """Raises ValueError also for a row to which the entry of another one has led."""
    values = dict(row._mapping)  # public in spite of its name
    entry = {name: values.pop(name) for name in row._fields if name.startswith("key_")}
    if any(value != values[name.removeprefix("key_")] for name, value in entry.items()):
        raise ValueError(f"the entry for dump {entry['key_id']!r} leads to {values['id']!r}")
    return _record(values)


def _replace(connection: Connection, record: DumpRecord) -> None:
    """Write a row in the place of an older one."""
    if record.checked is None:
        checked = connection.scalar(select(DUMPS.c.checked).where(DUMPS.c.id == record.id))
        record = replace(record, checked=checked if isinstance(checked, int) else None)
    connection.execute(delete(DUMPS).where(DUMPS.c.id == record.id))
    connection.execute(insert(DUMPS).values(_row(record)))


def _row(record: DumpRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _FIELDS}
    row["state"] = record.state.value
    row["totals"] = None if record.totals is None else dict(record.totals)
    row["excluded"] = dict(record.excluded)
    return {**row, "seal": _seal(row)}


def _order(record: DumpRecord) -> tuple[int, int, str]:
    return record.first_seen, record.order_ns, record.id


def _record(row: Mapping[Any, Any]) -> DumpRecord:
    """Raises ValueError for a row that is not as it was written: SQLite has no checksums of its own."""
    values = dict(row)
    if values.pop("seal") != _seal(values):
        raise ValueError(f"the row of dump {values['id']!r} is not what was written")
    values["state"] = State(values["state"])
    return DumpRecord(**values)


def _seal(row: Mapping[str, Any]) -> str:
    """A digest of the other columns."""
    text = json.dumps(row, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
