"""From HELLO to the end of a connection: which dump it is, whether it may come in, who else is at it.

Owns the answers to HELLO, fencing [W-77] and seats. How chunks are stored is for arrival.py; whether a peer may speak
at all was decided before (ingest.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from netdump import wire
from netdump.errors import BusyError, DamagedError, DumpNotFoundError, MismatchError, OwnerError, PkiError, StoreError
from netdump.namedtuple import NamedTuple
from netdump.server.admission import Account, Accounts, Admission, Beginnings, Holdings, Usage
from netdump.server.arrival import Arrival, ArrivalContext
from netdump.server.seats import LOOK_S, MEASURED_S, SLOW_BYTES, Seat, Seats
from netdump.server.space import Room
from netdump.store.origin import Origin, check_offer
from netdump.store.writer import RESTED_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netdump.server.audit import Audit, Field
    from netdump.server.config import Limits
    from netdump.server.hostconnection import HostConnection
    from netdump.server.recorder import Recorder
    from netdump.store.dump import Dump
    from netdump.store.store import Store
    from netdump.store.writer import DumpWriter

ANSWER_S: Final = 8.0  # of the 10 seconds that a client waits for its answer [W-75]
SOON_S: Final = 3  # when a dump that is busy now is expected to be free
KEPT_S: Final = 30.0  # that a dump which was open too late for its host's answer is kept open for when it comes back
QUEUE_S: Final = 60.0  # that a host waits for its turn before it may try another collector
BUSY_TRIES: Final = 5
BUSY_PAUSE_S: Final = 0.1

_BUSY: Final = wire.Defer(SOON_S, "the collector is busy with this dump")
_UNTOLD: Final = wire.Defer(SOON_S, "whether what is stored of this dump is sound cannot be told just now")
_DAMAGED: Final = wire.Decline(wire.DeclineCode.DAMAGED, "what is stored of this dump is damaged")

Result = TypeVar("Result")
LastWord = wire.Decline | wire.Defer | wire.Receipt


class _Claim:
    """A connection that has offered a dump and is not done with it. before_bytes: in its host's account by then.

    late: what came of that, too late for the connection. has_heir: a newer connection waits until this one is done, and
    takes that over. passed: the older one for which this one still waited then, and the heir is to wait instead.
    """

    __slots__ = ("account", "before_bytes", "connection", "done", "has_heir", "hello", "late", "passed", "released")

    def __init__(self, connection: HostConnection, hello: wire.Hello, account: Account) -> None:
        self.connection = connection
        self.hello = hello
        self.account = account
        self.before_bytes = account.stored_bytes
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.late: _Place | LastWord | None = None
        self.passed: _Claim | None = None
        self.has_heir = False

    def release(self) -> None:
        """Nothing is to be kept, or waited for, any more: a newer connection has come, or the collector stops."""
        if not self.released.done():
            self.released.set_result(None)


class _Facts(NamedTuple):
    """What store and index know before a dump is opened.

    dump: None if it is new. damaged: what is stored of it was found bad; None: the index does not say. introduced: its
    headline is here. begun: some of its pages are. scarce: what room is short of.
    """

    dump: Dump | None
    damaged: bool | None
    complete: bool
    introduced: bool
    begun: bool
    usage: Usage
    room: Room
    scarce: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A dump opened for a connection. later: what its host is told once its headline is here; None: it may send."""

    writer: DumpWriter
    usage: Usage
    later: wire.Defer | None


class _Metered:
    """A dump that arrives, and how much of it had come at the last look."""

    __slots__ = ("_before", "arrival", "seat")

    def __init__(self, arrival: Arrival, seat: Seat) -> None:
        self.arrival = arrival
        self.seat = seat
        self._before = 0

    def pace(self, before: float, now: float) -> float | None:
        """Bytes of chunks that have come a second since the last look, or since it was seated; None: for too short.

        before, now: of the last look and of this one, by the loop's clock.
        """
        come, self._before = self.arrival.taken_bytes - self._before, self.arrival.taken_bytes
        seconds = now - max(before, self.seat.since)
        return come / seconds if self.seat.taken and seconds >= MEASURED_S else None


class Reception:
    """All dumps that arrive. Belongs to the event loop.

    on_complete(id) is called when a dump becomes complete. clock: seconds since 1970, stamped into new dumps.
    """

    def __init__(
        self,
        store: Store,
        context: ArrivalContext,
        limits: Limits,
        *,
        recorder: Recorder,
        on_complete: Callable[[str], None],
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._context = context
        self._limits = limits
        self._admission = Admission(limits)
        self._accounts = Accounts(limits)
        self._beginnings = Beginnings(limits)
        self._holdings = Holdings()
        self._seats = Seats(limits, context.ingest)
        self._recorder = recorder
        self._on_complete = on_complete
        self._audit = audit
        # By dump and host: whether a host owns the dump that it claims is not known when the claim is made.
        self._claims: dict[tuple[bytes, str], _Claim] = {}
        self._stops = False
        self._meters: set[_Metered] = set()
        self._looks = False

    async def attend(self, connection: HostConnection, hello: wire.Hello) -> None:
        """See a connection through, from HELLO on."""
        key = (hello.dump_id, connection.host)
        before, claim = self._claims.get(key), _Claim(connection, hello, self._accounts.open(connection.host))
        self._claims[key] = claim
        try:
            opening = asyncio.create_task(self._open(claim, before))
            await asyncio.wait({opening}, timeout=ANSWER_S)
            if not opening.done():
                self._conclude(connection, hello, _BUSY)
                await self._keep(claim, await opening)
            elif isinstance(found := await opening, _Place):
                await self._receive(connection, hello, found, claim)
            else:
                self._conclude(connection, hello, found)
        finally:
            claim.done.set_result(None)
            self._accounts.close(connection.host)
            if self._claims.get(key) is claim:
                del self._claims[key]

    def stop(self) -> None:
        """Keep nothing for hosts that would come back: the collector stops."""
        self._stops = True
        for claim in self._claims.values():
            claim.release()

    async def _keep(self, claim: _Claim, found: _Place | LastWord) -> None:
        """Have what was found ready for the next connection, which would find it as slowly: a dump of many segments,
        of which all are looked at, would never go on.
        """
        if found is _BUSY or found is _UNTOLD:
            return  # which need not be so any more by then
        claim.late = found
        if not (self._stops or claim.has_heir):
            await asyncio.wait({claim.released}, timeout=KEPT_S)
        if not claim.has_heir:
            claim.late = None
            await self._let_go(found)

    async def _let_go(self, found: _Place | LastWord) -> None:
        if isinstance(found, _Place):
            await self._on_disk(found.writer.close)

    async def _open(self, claim: _Claim, before: _Claim | None) -> _Place | LastWord:
        """Decide on a HELLO: an opened dump, or the last word."""
        connection, hello = claim.connection, claim.hello
        origin = Origin(
            id=hello.dump_id.hex(),
            host=connection.host,
            host_key=connection.identity.fingerprint,
            image_bytes=hello.image_bytes,
            page_bytes=hello.page_bytes,
            level=hello.level,
            drill=hello.drill,
            agent=hello.agent,
            created=int(self._clock()),
        )
        if before is not None:
            self._note("dump-fenced", connection, hello)
            before.connection.fail(wire.ErrorCode.FENCED, "the dump is offered on a newer connection")
            before.has_heir = True
            before.release()
            # What the older connection brought becomes durable or is given up before the newer one gets its answer.
            last = await self._outlast(before, claim)
            if last is not None and last.late is not None:
                if _shape(last.hello) == _shape(hello):
                    claim.before_bytes = last.before_bytes  # by when the host's usage was asked for
                    return last.late
                await self._let_go(last.late)
            if last is None or not connection.is_open:
                return _BUSY  # as it was told; the next one is behind it
        try:
            async with claim.account.openings:
                return self._admission.image(hello.image_bytes) or await self._admit(origin)
        except (StoreError, PkiError) as error:
            if isinstance(error, DamagedError):
                self._recorder.damaged(origin.id, str(error))
            self._context.disk_failures.note(error)
            self._note("dump-refused", connection, hello, reason=str(error))
            return self._refusal(error)

    async def _outlast(self, before: _Claim, claim: _Claim) -> _Claim | None:
        """Wait until the older connections of a dump are done. Returns the last of them; None: the heir of this one
        waits instead. So there are never more than two, however long the oldest takes and often the host comes back.
        """
        while True:
            await asyncio.wait({before.done, claim.released}, return_when=asyncio.FIRST_COMPLETED)
            if claim.has_heir and not before.done.done():
                claim.passed = before
                return None
            await asyncio.wait({before.done})
            if before.passed is None:
                return before
            before = before.passed

    async def _admit(self, origin: Origin) -> _Place | LastWord:
        """Raises StoreError."""
        facts = await self._on_disk(self._look_up, origin)
        if facts.damaged and facts.complete:
            return _DAMAGED  # a receipt would let the host forget what is not here any more
        if facts.dump is not None and facts.complete:
            if facts.damaged is None and not self._is_fresh(facts.dump):
                return _UNTOLD
            return await self._on_disk(self._receipt_of, facts.dump, origin)
        now, usage = asyncio.get_running_loop().time(), facts.usage
        if usage.known:
            self._holdings.note(origin.host, usage.stored_bytes)
        else:
            dumps_today, stored_bytes = self._beginnings.today(origin.host, now), self._holdings.of(origin.host)
            usage = usage._replace(dumps_today=dumps_today, stored_bytes=stored_bytes)
        refusal = self._admission.quota(new=facts.dump is None, usage=usage)
        if refusal is not None:
            return refusal
        later = self._admission.space(begun=facts.begun, room=facts.room, scarce=facts.scarce)
        if later is not None:  # thousands may be, and would all come back at once
            later = later._replace(seconds=max(later.seconds, self._seats.pause_s(has_waited=False)))
        if later is not None and (facts.room is Room.NONE or (facts.introduced and not facts.damaged)):
            return later  # the dump is not opened
        writer = await self._open_writer(origin, distrust=bool(facts.damaged))
        if facts.dump is None:
            self._beginnings.note(origin.host, now)
            self._recorder.refresh(origin.id)  # it counts, also if its host has gone by now
        if facts.damaged:
            # What is left of it is sound; the host still has the rest.
            self._audit("dump-mended", dump=origin.id, host=origin.host, offset=writer.durable.offset)
            self._recorder.mended(origin.id)
        assert writer.manifest is None, "nobody else completes a dump that this host claims here"
        return _Place(writer, usage, later)

    def _is_fresh(self, dump: Dump) -> bool:
        """Whether a complete dump whose manifest was read became so just now: all of it was verified then."""
        manifest = dump.manifest
        return manifest is not None and 0 <= self._clock() - manifest.completed <= RESTED_S

    async def _open_writer(self, origin: Origin, *, distrust: bool) -> DumpWriter:
        """Raises StoreError. A reader that asks whether the dump is locked holds the lock for a moment: try again."""
        open_writer = functools.partial(self._store.open_writer, origin, distrust=distrust, keep_on=self._keep_on)
        for _ in range(BUSY_TRIES):
            try:
                return await self._on_disk(open_writer)
            except BusyError:
                await asyncio.sleep(BUSY_PAUSE_S)
        return await self._on_disk(open_writer)

    def _keep_on(self) -> None:
        """In a thread that reads for long."""
        if self._context.stopping.is_set():
            raise BusyError("the collector stops")

    def _look_up(self, origin: Origin) -> _Facts:
        """In a thread."""
        dump, room = self._find(origin), self._context.room()
        return _Facts(
            dump,
            damaged=False if dump is None else self._recorder.is_damaged(origin.id),
            complete=dump is not None and dump.complete,
            introduced=dump is not None and dump.has_headline,
            begun=dump is not None and dump.has_segments,
            usage=self._recorder.usage(origin.host, origin.created, self._limits.stored_bytes_per_host),
            room=room,
            scarce="inodes" if room is not Room.PLENTY and self._context.space.lacks_files() else "space",
        )

    def _find(self, offered: Origin) -> Dump | None:
        """The dump that is offered, which is this host's; None if it is new.

        Raises OwnerError, MismatchError, StoreError.
        """
        try:
            dump = self._store.dump(offered.id)
            known = dump.origin
        except DumpNotFoundError:
            # Also of a folder without origin, as a collector that was killed, or found the disk full, has left it.
            return None
        except DamagedError as error:
            self._recorder.damaged(offered.id, str(error))
            # Whose dump it is cannot be told, so not even its owner may be told that it is here [W-32].
            raise StoreError(f"whose dump {offered.id} is cannot be told: {error}") from error
        check_offer(known, offered)  # as Store.open_writer does, but before anything is said of a dump [W-32]
        return dump

    def _receipt_of(self, dump: Dump, origin: Origin) -> wire.Receipt:
        """In a thread: the receipt of a complete dump [W-67]. It is made now if the collector ended before it could."""
        try:
            durable = dump.durable
        except DamagedError:
            if self._store.holds(dump.id):
                raise
            raise BusyError(f"dump {dump.id} was deleted while its segments were looked at") from None
        assert durable.offset == origin.image_bytes
        manifest, document = dump.manifest, dump.receipt
        if manifest is not None and document:
            return wire.Receipt(manifest.root, document)
        with self._store.open_writer(origin, is_known=True) as writer:
            return self._context.receipt(writer)

    def _refusal(self, error: StoreError | PkiError) -> wire.Decline | wire.Defer:
        match error:
            case OwnerError():
                return wire.Decline(wire.DeclineCode.NOT_OWNER)  # and not a word more [W-32]
            case MismatchError():
                return wire.Decline(wire.DeclineCode.MISMATCH, "the dump is known with another size or level")
            case DamagedError():
                return _DAMAGED
            case BusyError():
                return _BUSY
            case _:
                return wire.Defer(self._limits.defer_s, "the collector cannot store, or sign, just now")

    async def _receive(self, connection: HostConnection, hello: wire.Hello, place: _Place, claim: _Claim) -> None:
        writer = place.writer
        if not connection.is_open:
            await self._on_disk(writer.close)
            return
        journal = self._recorder.journal(writer.origin.id, writer.stored_bytes)
        whole = writer.durable.offset == hello.image_bytes  # nothing but FINISH is due, which needs no seat
        seat = Seat(self._seats, connection.host, hello.image_bytes)
        seating: asyncio.Task[None] | None = None
        try:
            admitted = place.later is None and (whole or seat.take())
            arrival = Arrival(
                connection,
                writer,
                self._context,
                journal,
                admitted=admitted,
                may_store=functools.partial(self._may_store, claim, place.usage),
                credit=functools.partial(self._seats.credit, hello.image_bytes),
            )
            connection.begin(self._resume(writer, arrival.credit), arrival)
            self._note("dump-arrives", connection, hello, offset=writer.durable.offset, size=hello.image_bytes)
            if not admitted:
                seating = asyncio.create_task(
                    self._seat_later(connection, hello, arrival, seat, writer.origin.created)
                    if place.later is None
                    else self._put_off(connection, hello, arrival, place.later)
                )
                seating.add_done_callback(functools.partial(_end_if_failed, arrival))
            with self._metered(_Metered(arrival, seat)):
                ending = await arrival.run()
        finally:
            seat.leave()
            if seating is not None and not seating.cancel():
                seating.result()
        journal.ended()
        if ending.complete:
            self._on_complete(writer.origin.id)
        event = "dump-complete" if ending.complete else "dump-interrupted"
        self._note(event, connection, hello, offset=writer.durable.offset, reason=ending.reason)

    def _may_store(self, claim: _Claim, usage: Usage, more_bytes: int) -> bool:
        """Count what a dump has stored, and say whether it may go on, as one of those of its host that arrive."""
        claim.account.stored_bytes += more_bytes
        self._holdings.add(claim.connection.host, more_bytes)
        since = claim.account.stored_bytes - claim.before_bytes
        return usage.stored_bytes + since <= self._limits.stored_bytes_per_host

    async def _seat_later(
        self, connection: HostConnection, hello: wire.Hello, arrival: Arrival, seat: Seat, since: int
    ) -> None:
        """Find a seat for a dump whose headline has become durable, or tell its host to come back."""
        await arrival.introduced.wait()
        self._note("dump-queues", connection, hello)
        if not self._looks:
            self._looks = True
            self._look_later()
        has_waited = False
        try:
            async with asyncio.timeout(QUEUE_S):
                seated = await seat.wait(since)
        except TimeoutError:
            seat.leave()
            seated, has_waited = False, True
        if seated:
            arrival.admit()
        else:
            text = "the headline is here; as many dumps as the collector takes at a time are arriving"
            self._conclude(connection, hello, wire.Defer(self._seats.pause_s(has_waited=has_waited), text))

    async def _put_off(
        self, connection: HostConnection, hello: wire.Hello, arrival: Arrival, later: wire.Defer
    ) -> None:
        """Tell the host of a dump whose headline has become durable to come back."""
        await arrival.introduced.wait()
        self._conclude(connection, hello, later)

    @contextlib.contextmanager
    def _metered(self, metered: _Metered) -> Iterator[None]:
        self._meters.add(metered)
        try:
            yield
        finally:
            self._meters.remove(metered)

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK_S, self._look, loop.time())

    def _look(self, before: float) -> None:
        """See how those who sit have been sending since then, for as long as that decides anything."""
        now = asyncio.get_running_loop().time()
        paces = [metered.pace(before, now) for metered in self._meters]
        self._seats.look(
            measured=sum(pace is not None for pace in paces),
            slow=sum(
                pace is not None and pace < SLOW_BYTES and not metered.arrival.is_behind
                for pace, metered in zip(paces, self._meters, strict=True)
            ),
            behind=sum(metered.arrival.is_behind for metered in self._meters),
        )
        self._looks = self._seats.is_watched
        if self._looks:
            self._look_later()

    def _resume(self, writer: DumpWriter, credit: int) -> wire.Resume:
        settings, durable = self._context.ingest, writer.durable
        return wire.Resume(
            offset=durable.offset,
            chain=durable.chain,
            chunks=durable.chunks,
            headline=writer.has_headline,
            credit=credit,
            keepalive=settings.keepalive_s,
            idle=settings.idle_s,
        )

    def _conclude(self, connection: HostConnection, hello: wire.Hello, word: LastWord) -> None:
        if connection.is_open:
            reason = None if isinstance(word, wire.Receipt) else word.text
            self._note(f"answer-{type(word).__name__.lower()}", connection, hello, reason=reason)
            connection.conclude(word)

    def _note(self, event: str, connection: HostConnection, hello: wire.Hello, **fields: Field) -> None:
        who = {"host": connection.host, "peer": connection.peer}
        self._audit(event, dump=hello.dump_id.hex(), **who, drill=hello.drill, **fields)

    async def _on_disk(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._context.disks, work, *arguments)


def _shape(hello: wire.Hello) -> tuple[int, int, int]:
    """What is the same at every offer of a dump."""
    return hello.image_bytes, hello.page_bytes, hello.level


def _end_if_failed(arrival: Arrival, seating: asyncio.Task[None]) -> None:
    """Nobody else would ever call the dump of a task that made a mistake: end its arrival; who awaits it says why."""
    if not seating.cancelled() and seating.exception() is not None:
        arrival.end()
