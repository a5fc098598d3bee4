"""Which collector is tried when, until the dump is delivered or it is certain that it cannot be.

Owns the round of collectors, their back-off, and the judgement of how a connection ended. The order is the
administrator's, and among those that were tried already the order of their turns; a collector that has part of the dump
is kept through a few failures in a row, and for a while, because another one may have to begin at the start. Who
declines is dropped for this run ([W-39], [W-88]), who refuses, or is not who he should be, for a while; who is away or
busy is tried again until patience or the deadline ends. The run ends when all are dropped. Reads no settings file and
prints only through the console.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from netdump import __version__
from netdump.client.ledger import Ledger
from netdump.client.link import RECORDS_MAX
from netdump.client.progress import Meter, duration, mebibytes
from netdump.client.retry import Backoff, system_random
from netdump.client.session import Limits, Session
from netdump.errors import (
    DeadlineError,
    DeclinedError,
    ImpostorError,
    NetdumpError,
    ProtocolError,
    RefusedError,
    RemoteProtocolError,
    SendError,
    UnreachableError,
)
from netdump.namedtuple import NamedTuple
from netdump.wire import ERROR_RETRYABLE, Decline, DeclineCode, Defer, Error, ErrorCode, Hello, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from netdump.client.address import Address
    from netdump.client.config import Settings
    from netdump.client.effort import Effort
    from netdump.client.image import Image
    from netdump.client.link import Link
    from netdump.client.progress import Console
    from netdump.client.session import LastWord
    from netdump.client.stream import ChunkStream
    from netdump.client.tally import Tally

AGENT = f"netdump/{__version__}"
LOYALTY = 5  # failures in a row without progress before a collector that has part of the dump gives way to others
LOYAL_SECONDS = 60.0  # and that long: a collector that is started again is away, or busy with what it has of a dump
LOYAL_SHARE = 0.1  # of the time that is left, if that is less
LOYAL_SECONDS_MORE = 240.0  # for those few failures, if each takes long
LAST_ATTEMPT = 1.0  # seconds before the deadline that a last attempt gets, if the back-off would pass the deadline
STRIKES_MAX = 5  # breaches of the protocol in a row without progress, or fencings in all, before a collector is dropped
PARDON_SECONDS = 60.0  # until one is tried again that was dropped for what may pass, if there are others until then
RECEIPT_DUE = "all of it is there, waiting for the receipt"

DECLINE_TEXTS: Mapping[int, str] = {
    DeclineCode.NOT_OWNER: "it knows this dump as another host's: check that the bundle is this host's own",
    DeclineCode.MISMATCH: "it knows a dump of this id with another size or level: use the level that was used first",
    DeclineCode.TOO_LARGE: "the image is larger than it accepts: ask its operator to raise the limit",
    DeclineCode.QUOTA: "this host has used up its space there: ask its operator to delete or raise the quota",
    DeclineCode.DAMAGED: "what it has of this dump is damaged: ask its operator to delete that",
}
# Errors of a collector that say nothing against it or us: come back later.
BUSY = frozenset({ErrorCode.STORAGE, ErrorCode.SHUTTING_DOWN, ErrorCode.IDLE_TIMEOUT})


class Timing(NamedTuple):
    """When to end. deadline: absolute, of the clock. patience: seconds without progress."""

    deadline: float
    patience: float


class Outcome(NamedTuple):
    """A delivered dump. root: as in the receipt. document: the signed statement."""

    address: Address
    root: bytes
    document: bytes


class Site:
    """One collector in this run.

    dropped: why it is not tried any more. is_final: nor later. tried: of the clock, when it was last. not_before:
    likewise. deferred: it has asked for that time. durable: the image offset up to which it has the dump, as far as
    known. kept_until: of the clock, if it has part of the dump and fails. strikes: breaches of the protocol since it
    made progress. fenced: how often another sender took the dump over.
    """

    __slots__ = (
        "address",
        "backoff",
        "deferred",
        "dropped",
        "durable",
        "failures",
        "fenced",
        "is_final",
        "kept_until",
        "last_error",
        "ledger",
        "not_before",
        "strikes",
        "tried",
    )

    def __init__(self, address: Address, backoff: Backoff, ledger: Ledger) -> None:
        self.address = address
        self.backoff = backoff
        self.ledger = ledger
        self.dropped: NetdumpError | None = None
        self.is_final = False
        self.last_error: NetdumpError | None = None
        self.tried = -math.inf
        self.not_before = 0.0
        self.deferred = False
        self.durable = 0
        self.failures = 0  # in a row, without progress
        self.kept_until = 0.0
        self.strikes = 0
        self.fenced = 0


class Environment(NamedTuple):
    """What a delivery stands on, injected so that tests can play it.

    dial: opens a link to a collector. open_stream: begins the chunks at an image offset. clock: seconds, monotonic, as
    the links use it. random: yields numbers in 0 .. 1. records_max: of TLS on one connection. effort: who chooses the
    level of compression, if anybody.
    """

    dial: Callable[[Address], Link]
    open_stream: Callable[[int], ChunkStream]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = system_random
    records_max: int = RECORDS_MAX
    effort: Effort | None = None


class Delivery:
    """One run: offers the image to the collectors until one has all of it. addresses: in the order of preference."""

    def __init__(
        self,
        image: Image,
        addresses: Sequence[Address],
        settings: Settings,
        timing: Timing,
        environment: Environment,
        *,
        console: Console,
        tally: Tally,
    ) -> None:
        self._image = image
        self._settings = settings
        self._timing = timing
        self._console = console
        self._tally = tally
        self._dial = environment.dial
        self._open_stream = environment.open_stream
        self._clock = environment.clock
        self._sleep = environment.sleep
        self._records_max = environment.records_max
        self._effort = environment.effort
        self._meter = Meter(image.size)
        back_off = partial(Backoff, settings.retry_min, settings.retry_max, environment.random)
        self._sites = [Site(address, back_off(), Ledger(image.dump_id, image.size)) for address in addresses]
        self._loyal: Site | None = None
        self._queued: float | None = None  # since when this connection waits for its turn
        self._is_delivered = False  # whether all of the image was acknowledged on this connection
        self._patient_until = self._clock() + timing.patience

    def run(self) -> Outcome:
        """Deliver.

        Raises the SendError that says best why it could not be, DeadlineError, and what reading the source raises.
        """
        while True:
            site = self._choose()
            receipt = self._attempt(site)
            if receipt:
                return Outcome(site.address, receipt.root, receipt.document)

    # Whose turn it is

    def _choose(self) -> Site:
        """Return the next collector to try, having waited until it is its time."""
        while True:
            now = self._clock()
            self._check_time(now)
            open_sites = [site for site in self._sites if not site.dropped]
            if not open_sites:
                raise self._verdict()
            if self._loyal in open_sites and _is_kept(self._loyal, now):
                open_sites = [self._loyal]
            else:
                open_sites += self._pardoned(open_sites)
            ready = [site for site in open_sites if site.not_before <= now]
            if ready:
                return min(ready, key=lambda site: site.tried)  # else two that are slow to fail would keep out a third
            self._wait(min(site.not_before for site in open_sites), now)

    def _pardoned(self, open_sites: Sequence[Site]) -> list[Site]:
        """Those that were dropped for what may pass: an address that two machines claim, a fault of the collector's.

        Where no other can be tried before the deadline only those with a fault: who refuses seldom ceases to.
        """
        pardoned = [site for site in self._sites if site.dropped and not site.is_final]
        if all(site.not_before >= self._timing.deadline for site in open_sites):
            pardoned = [site for site in pardoned if not _certainty(site.dropped)]
        return pardoned

    def _wait(self, until: float, now: float) -> None:
        limit = min(self._timing.deadline, self._patient_until)
        if until >= self._timing.deadline:
            raise self._late("no collector can be tried again before the deadline")
        self._sleep(max(0.0, min(until, limit) - now))

    def _check_time(self, now: float) -> None:
        if now >= self._timing.deadline:
            raise self._late("the deadline has passed")
        if now >= self._patient_until:
            raise self._verdict()

    # One connection and what its end means

    def _attempt(self, site: Site) -> Receipt | None:
        """Try one collector once. Returns the receipt, or None: choose again."""
        site.tried, site.deferred = self._clock(), False
        if site.dropped:
            site.last_error, site.dropped = site.dropped, None
        self._console.detail(f"trying {site.address}")
        try:
            link = self._dial(site.address)
        except (ImpostorError, RefusedError) as error:
            self._suspend(site, error)
            return None
        except UnreachableError as error:
            self._fail(site, error)
            return None
        except ProtocolError as error:
            self._strike(site, error)
            return None
        session, hello = self._session(site, link), self._hello()
        self._tally.connections += 1
        try:
            word = session.run(hello)
        except RefusedError as error:
            self._suspend(site, error)
        except UnreachableError as error:
            self._note_progress(site, session)
            if not session.advanced:
                link.blame()
            self._fail(site, error)
        except ProtocolError as error:
            self._note_progress(site, session)
            if error.reason == "bad-root" and site.ledger.finished:
                self._contradict(site)
            else:
                self._strike(site, error)
        except DeadlineError as error:
            self._note_progress(site, session)
            raise self._late(f"the deadline passed while {self._doing(site)}") from error
        else:
            self._note_progress(site, session)
            if session.behind and session.resume:
                self._catch_up_alone(session.resume.offset)
                return None
            if isinstance(word, Error) and word.code is ErrorCode.IDLE_TIMEOUT and not session.advanced:
                link.blame(silent=True)
            return self._judge(site, word)
        finally:
            link.close()
            self._tally.wire_bytes += link.sent_bytes
        return None

    def _catch_up_alone(self, offset: int) -> None:
        """Catch up while no collector waits for us: with terabytes it takes minutes. It is nobody's fault."""
        begun, reached = self._clock(), 0

        def describe() -> str:
            return f"looked at {mebibytes(reached)} of {mebibytes(offset)}"

        for at in self._image.catch_up(offset):
            reached = at
            if self._clock() >= self._timing.deadline:
                raise self._late("the deadline passed while looking at what was sent before")
            self._console.progress(describe)
        self._patient_until += self._clock() - begun

    def _session(self, site: Site, link: Link) -> Session:
        limits = Limits(self._settings.stall_timeout, self._settings.progress_timeout, self._timing.deadline)
        self._queued, self._is_delivered = None, False
        return Session(
            link,
            site.ledger,
            self._tally,
            limits,
            headline=self._image.headline,
            afterword=self._image.afterword,
            catch_up=self._catch_up,
            open_stream=lambda offset: self._begin(site, offset),
            on_turn=self._show,
            on_queue=lambda: self._queue(site),
            effort=self._effort,
            clock=self._clock,
            records_max=self._records_max,
        )

    def _queue(self, site: Site) -> None:
        """A collector has answered RESUME, but takes no chunks yet."""
        self._queued = self._clock()
        self._console.say(f"{site.address} takes no pages yet")

    def _catch_up(self, offset: int) -> Iterator[int]:
        """See Image.catch_up; said once."""
        for number, reached in enumerate(self._image.catch_up(offset)):
            if not number:
                self._console.say(f"looking at the pages of the {mebibytes(offset)} that were sent before")
            yield reached

    def _begin(self, site: Site, offset: int) -> ChunkStream:
        """A collector takes chunks: say where it goes on and begin the stream there."""
        self._queued = None
        self._meter.restart(offset, self._clock())
        verb = "goes on" if offset else "begins"
        self._console.say(f"{site.address} {verb} at {mebibytes(offset)} of {mebibytes(self._image.size)}")
        if offset < site.durable:
            back = f"from {mebibytes(site.durable)} to {mebibytes(offset)}"
            self._console.warn(f"{site.address} went back {back}: sending that part again")
        elif offset > site.durable:
            self._renew(site)  # acknowledged by now, if only after the connection had broken
        site.durable = offset
        return self._open_stream(offset)

    def _show(self, acked: int) -> None:
        now = self._clock()
        self._meter.update(acked, now)
        self._is_delivered = acked == self._image.size
        self._console.progress(lambda: self._describe(now))

    def _describe(self, now: float) -> str:
        """What this connection does, in one line."""
        if self._queued is not None:
            return f"waiting for a turn, {duration(now - self._queued)} so far"
        return RECEIPT_DUE if self._is_delivered else self._meter.describe(now)

    def _doing(self, site: Site) -> str:
        if self._queued is not None:
            return f"other dumps came first at {site.address}"
        return f"{site.address} looked through what it has" if self._is_delivered else "sending"

    def _hello(self) -> Hello:
        image, attempt = self._image, self._tally.connections
        return Hello(image.dump_id, image.size, image.page_bytes, image.level, AGENT, attempt, self._settings.drill)

    def _note_progress(self, site: Site, session: Session) -> None:
        if session.resume:
            site.durable = session.acked_offset
            if site.durable:
                self._loyal = site
        if session.advanced:
            self._renew(site)

    def _renew(self, site: Site) -> None:
        """A collector has made something new durable: what went wrong there before is forgiven."""
        site.failures = site.strikes = 0
        site.backoff.reset()
        self._patient_until = self._clock() + self._timing.patience

    def _judge(self, site: Site, word: LastWord | None) -> Receipt | None:
        """Act on a collector's last word."""
        match word:
            case None:
                self._console.detail(f"{site.address}: connecting again, for the keys of this connection are used up")
            case Receipt():
                return word
            case Defer():
                self._defer(site, word)
            case Decline():
                reason = DECLINE_TEXTS.get(word.code, f"code {word.code}")
                text = f" ({word.text})" if word.text else ""
                error = DeclinedError(f"{site.address} declines dump {self._image.name}: {reason}{text}")
                self._drop(site, error, is_final=True)
            case Error():
                self._judge_error(site, word)
        return None

    def _judge_error(self, site: Site, word: Error) -> None:
        text = f": {word.text}" if word.text else ""
        what = f"{site.address} failed the connection with {word.code.slug}{text}"
        if word.code is ErrorCode.NOT_ALLOWED:
            reason = word.text or "its certificate is not accepted: enroll it again"
            self._drop(site, RefusedError(f"{site.address} does not let this host in: {reason}"), is_final=True)
        elif not ERROR_RETRYABLE[word.code]:
            self._drop(site, SendError(what), is_final=True)
        elif word.code is ErrorCode.FENCED:
            site.fenced += 1
            site.ledger.fenced()
            if site.fenced >= STRIKES_MAX:
                self._drop(
                    site,
                    SendError(
                        f"{site.address}: another process keeps sending dump {self._image.name}: stop one of them"
                    ),
                )
            else:
                self._fail(site, SendError(f"{what}; another process may be sending this dump"))
        elif word.code in BUSY:
            self._fail(site, SendError(what))
        else:
            self._strike(site, SendError(what))

    def _contradict(self, site: Site) -> None:
        """A receipt is not for what was sent [W-68]. A complete dump does not change: asking again is of no use."""
        site.durable = 0  # as far as this run can know
        text = (
            f"{site.address} says that it has all of dump {self._image.name}, but of another root than that of what "
            "was sent to it: have its operator look at it (`netdump verify`), or send to another collector"
        )
        self._drop(site, RemoteProtocolError("bad-root", text), is_final=True)

    def _defer(self, site: Site, word: Defer) -> None:
        now = self._count_failure(site)
        text = f": {word.text}" if word.text else ""
        site.last_error = SendError(f"{site.address} asks to come back in {duration(word.seconds)}{text}")
        site.not_before = now + word.seconds
        site.deferred = True
        self._patient_until = max(self._patient_until, site.not_before + self._timing.patience)
        self._console.say(str(site.last_error))

    def _strike(self, site: Site, error: NetdumpError) -> None:
        """A breach of the protocol: once may be chance, several in a row are not."""
        site.strikes += 1
        if site.strikes >= STRIKES_MAX:
            self._suspend(site, error)
        else:
            self._fail(site, error)

    def _suspend(self, site: Site, error: NetdumpError) -> None:
        """Drop for what may pass; but who has part of the dump is kept for a while, if another one is to begin then."""
        is_young = not site.failures or self._clock() < site.kept_until
        if is_young and site is self._loyal and any(not other.dropped for other in self._sites if other is not site):
            self._fail(site, error)
        else:
            self._drop(site, error)

    def _fail(self, site: Site, error: NetdumpError) -> None:
        now = self._count_failure(site)
        site.last_error = _without_frames(error)
        site.not_before = self._at(site.backoff.next_delay())
        self._console.say(f"{error}; trying again in {site.not_before - now:.1f} s")

    def _count_failure(self, site: Site) -> float:
        """Count an attempt without progress. Returns the time."""
        now = self._clock()
        if not site.failures:
            site.kept_until = now + min(LOYAL_SECONDS, LOYAL_SHARE * (self._timing.deadline - now))
        site.failures += 1
        return now

    def _drop(self, site: Site, error: NetdumpError, *, is_final: bool = False) -> None:
        site.dropped, site.is_final = _without_frames(error), is_final
        site.not_before = self._at(PARDON_SECONDS)
        how_long = "in this run" if is_final else f"for {PARDON_SECONDS:.0f} s"
        self._console.say(f"{error}; {site.address} is not tried again {how_long}")

    def _at(self, delay: float) -> float:
        """When another attempt is due; the time that is left before the deadline is used, not given up."""
        now = self._clock()
        remaining = self._timing.deadline - LAST_ATTEMPT - now
        return now + (min(delay, remaining) if remaining > 0 else delay)

    # The end without delivery

    def _late(self, what: str) -> DeadlineError:
        reasons = "; ".join(str(error) for site in self._sites if (error := site.dropped or site.last_error))
        return DeadlineError(f"dump {self._image.name}: {what}{f' ({reasons})' if reasons else ''}. {self._remains()}")

    def _verdict(self) -> NetdumpError:
        """The error that says best why nothing more is tried: what still had a chance counts before what had none."""
        waiting = [site.last_error for site in self._sites if not site.dropped and site.last_error]
        dropped = sorted((site.dropped for site in self._sites if site.dropped), key=_certainty)
        errors = waiting + dropped
        if not errors:
            return UnreachableError(
                f"dump {self._image.name}: no collector was tried before patience ended. {self._remains()}"
            )
        sentence = "; ".join(str(error) for error in errors)
        text = f"dump {self._image.name} is not delivered: {sentence}. {self._remains()}"
        first = errors[0]
        return type(first)(first.reason, text) if isinstance(first, ProtocolError) else type(first)(text)

    def _remains(self) -> str:
        """Say what was achieved and that nothing of it is lost."""
        best = max(self._sites, key=lambda site: site.durable)
        if best.durable:
            kept = f"{best.address} keeps {mebibytes(best.durable)} of {mebibytes(self._image.size)}"
            return f"{kept}: run the same command again to go on there"
        return "Nothing is lost: the same command can be run again"


def _is_kept(site: Site, now: float) -> bool:
    """Whether no other collector is tried instead of this one, which has part of the dump."""
    if site.deferred:
        return site.not_before <= site.kept_until
    more = LOYAL_SECONDS_MORE if site.failures < LOYALTY else 0.0
    return not site.failures or now < site.kept_until + more


def _certainty(error: NetdumpError | None) -> int:
    """How sure it is that a collector will not take the dump in a later run either, for the order among such."""
    if isinstance(error, DeclinedError):
        return 2
    return int(isinstance(error, ImpostorError | RefusedError))


def _without_frames(error: NetdumpError) -> NetdumpError:
    """Keep what an error says, but not the frames it came through: they hold a whole session with its buffers."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
