"""The index: an SQLite file with one row a dump, for several processes at once, all of it restorable from the store.

Owns the connection settings, transactions, and migration at opening. Must not read the store: what stands in a row is
decided by `gather`. Methods may be called from several threads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from sqlalchemy import URL, Engine, create_engine, delete, event, func, insert, literal_column, or_, select, tuple_
from sqlalchemy.exc import SQLAlchemyError

from netdump.errors import BusyError, DumpNotFoundError, IndexFaultError
from netdump.index.faults import faults, remedy
from netdump.index.gate import Gate, Turns
from netdump.index.place import make, open_own, put_aside, take_lock
from netdump.index.reading import LIST_LIMIT_MAX, Query
from netdump.index.record import DumpRecord, State, was_unreadable
from netdump.index.rows import KEY, ORDER, find, in_order, order, put_row, record_listed, record_of, row_of
from netdump.index.schema import APPLICATION_ID, DUMPS, REVISION
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import TracebackType

    from sqlalchemy import ColumnElement, Connection

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


class Share(NamedTuple):
    """A part of the dumps: how many, and what they take up, in bytes."""

    dumps: int
    stored_bytes: int


class Index:
    """An open index. Made by `open`; a context manager."""

    __slots__ = ("_engine", "_gate", "_lock", "_path", "_turns")

    def __init__(self, path: Path, engine: Engine, lock: int) -> None:
        self._path = path
        self._engine = engine
        self._lock = lock
        self._gate = Gate()
        self._turns = Turns()

    @classmethod
    def open(cls, path: Path) -> Index:
        """Open the index at that path; make it, or bring it to this version, if need be.

        Raises IndexFaultError (damaged, foreign, of a newer version, not writable), BusyError (another process rebuilds
        it, or works on it for too long), StorageFaultError.
        """
        lock = take_lock(path, fcntl.LOCK_SH, "is being rebuilt; try again in a moment")
        try:
            with faults(path):
                make(path)
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
            put_row(connection, record)

    def renew(self, record: DumpRecord) -> None:
        """As put; but a dump that was found damaged does not become sound by a look at its documents.

        Whoever found the damage may have done so while the record was gathered. One of that id which was first seen at
        another time is another dump: that was deleted, and sent again.
        """
        with self._write() as connection:
            before = find(connection, record.id)
            settled = record.state in {State.COMPLETE, State.INTERRUPTED}
            damaged = before is not None and before.state is State.DAMAGED and not was_unreadable(before.remark)
            if before is not None and damaged and settled and before.first_seen == record.first_seen:
                record = replace(record, state=State.DAMAGED, remark=before.remark)
            put_row(connection, record)

    def add(self, records: Iterable[DumpRecord]) -> None:
        """Write the rows of dumps that have none yet; leave the others alone. records: some hundred at a time."""
        offered = [*records]
        wanted = select(DUMPS.c.id).where(DUMPS.c.id.in_([record.id for record in offered]))
        with self._write() as connection:
            known = set(connection.scalars(wanted))
            rows = [row_of(record) for record in offered if record.id not in known]
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

    def set_checked(self, checks: Mapping[str, int]) -> None:
        """Note when all of each of these dumps was checked, in one step. Nothing happens without a row."""
        with self._write() as connection:
            for dump_id, when in checks.items():
                _change(connection, dump_id, checked=when)

    def check(self) -> None:
        """Have SQLite look at the whole file. Raises IndexFaultError (damaged)."""
        with self._read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        if found != "ok":
            raise IndexFaultError(f"the index {self._path} is damaged ({found}); {remedy(self._path)}", damaged=True)

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
                    record_of(connection.execute(select(DUMPS).where(place == number)).one()._mapping)
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
                with faults(self._path):
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
            return find(connection, dump_id)

    def ids(self) -> set[str]:
        """The ids of all dumps that are known."""
        with self._read() as connection:
            return set(connection.scalars(select(DUMPS.c.id)))

    def checks(self) -> dict[str, int | None]:
        """When all of each dump was last checked, seconds since 1970; None: never."""
        with self._read() as connection:
            return {row.id: row.checked for row in connection.execute(select(DUMPS.c.id, DUMPS.c.checked))}

    def ids_in(self, state: State) -> list[str]:
        """The ids of the dumps whose rows name that state, oldest first."""
        wanted = select(DUMPS.c.id).where(DUMPS.c.state == state.value)
        with self._read() as connection:
            return [*connection.scalars(wanted.order_by(DUMPS.c.first_seen, DUMPS.c.order_ns, DUMPS.c.id))]

    def stored_bytes(self, host: str) -> int:
        """What the dumps of a host take up, by rows that are not looked at one by one: one that rotted counts as it is.

        Of 20,000 dumps, in an index of 200,000, it takes 33 ms; a list of them 1.2 s.
        """
        with self._read() as connection:
            total = connection.scalar(select(func.sum(DUMPS.c.stored_bytes)).where(DUMPS.c.host == host))
        return int(total or 0)

    def census(self) -> dict[State, Share]:
        """How many dumps there are of each state and what they take up, by rows that are not looked at one by one.

        Of 50,000 dumps it takes 27 ms.
        """
        wanted = select(DUMPS.c.state, func.count(), func.sum(DUMPS.c.stored_bytes)).group_by(DUMPS.c.state)
        with self._read() as connection:
            found = {state: Share(int(count), int(stored)) for state, count, stored in connection.execute(wanted)}
        return {state: found.get(state, Share(0, 0)) for state in State}

    def assert_unknown(self, dump_ids: Iterable[str]) -> None:
        """What follows from a list that lacks these dumps. Raises IndexFaultError (damaged) if one has a row."""
        with self._read() as connection:
            for dump_id in dump_ids:
                if find(connection, dump_id) is not None:
                    raise ValueError(f"the row of dump {dump_id!r} was passed over")

    def list(
        self, query: Query | None = None, also: Collection[State] = (), behind: DumpRecord | None = None
    ) -> list[DumpRecord]:
        """The dumps that a query asks for, newest first. also: states to list besides the query's.

        behind: only dumps that stand after this one, which may have no row any more.
        """
        query = query or Query()
        wanted = in_order(query.host).limit(min(query.limit, LIST_LIMIT_MAX))
        if query.since is not None:
            wanted = wanted.where(KEY.c.first_seen >= query.since)
        if query.drill is not None:
            wanted = wanted.where(or_(DUMPS.c.id.is_(None), DUMPS.c.drill == query.drill))
        if query.state is not None:
            states = {query.state, *also}
            wanted = wanted.where(or_(DUMPS.c.id.is_(None), DUMPS.c.state.in_([state.value for state in states])))
        edge = select(DUMPS.c.first_seen, DUMPS.c.order_ns, DUMPS.c.id).where(DUMPS.c.id == query.before)
        if query.before is not None:
            wanted = wanted.where(tuple_(*ORDER) < edge.scalar_subquery())
        if behind is not None:
            wanted = wanted.where(tuple_(*ORDER) < order(behind))
        with self._read() as connection:
            if query.before is not None and connection.execute(edge).first() is None:
                raise DumpNotFoundError(f"there is no dump {query.before} to go on from; list again from the start")
            listed = [record_listed(row) for row in connection.execute(wanted)]
            for former, latter in pairwise(listed):
                if order(former) <= order(latter):
                    raise ValueError(f"dump {latter.id!r} stands out of order")
            return listed

    def _change(self, dump_id: str, **values: Any) -> None:
        with self._write() as connection:
            _change(connection, dump_id, **values)

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
                raise IndexFaultError(
                    f"{self._path} was made by a newer netdump (schema {found}); {remedy(self._path)}"
                )
            _upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._gate.shared(), faults(self._path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        # IMMEDIATE takes the write lock at once: a transaction that reads first could not wait for it later.
        with (
            self._gate.shared(),
            faults(self._path),
            self._turns.taken(BUSY_SECONDS),
            self._engine.connect() as connection,
        ):
            connection.execution_options(netdump_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection


def _change(connection: Connection, dump_id: str, **values: Any) -> None:
    record = find(connection, dump_id)
    if record is not None:
        put_row(connection, replace(record, **values))


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
            raise IndexFaultError(f"{path} is a database of another program; move it away and {remedy(path)}")
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
