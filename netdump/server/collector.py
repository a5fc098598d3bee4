"""The collector: all parts put together on one folder, started and stopped in order.

Owns the folder while it runs (serve.lock), the sockets, the threads, and serve.json. What the parts do is theirs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import functools
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final

from netdump import wire
from netdump.errors import BusyError, NotACollectorError, ServeError, StorageFaultError, StoreError
from netdump.index.catalog import STORE_NAME
from netdump.index.place import NAME as INDEX_NAME
from netdump.index.rebuild import SERVE_LOCK_NAME, forget_status
from netdump.pki import Authority, sign_receipt
from netdump.server import dumps, enrolment, packed, runs
from netdump.server.admission import HostGate
from netdump.server.api import RENEWALS_PER_DAY, Desk, build_app
from netdump.server.arrival import ArrivalContext
from netdump.server.audit import Rationed
from netdump.server.config import DAY_S
from netdump.server.diskfailures import DiskFailures
from netdump.server.gate import Gate, GateLimits
from netdump.server.health import Health, Parts
from netdump.server.https import ApiService
from netdump.server.ingest import IngestService
from netdump.server.latecatalog import LateCatalog
from netdump.server.listener import Listener, address_of, bind
from netdump.server.owncertificate import CertificateWatch
from netdump.server.ratelimit import RateLimit
from netdump.server.reception import Reception
from netdump.server.recorder import Recorder
from netdump.server.restorer import Restorer
from netdump.server.scrub import Scrubber
from netdump.server.senders import Senders, last_written
from netdump.server.space import Measure, SpaceWatch, measure_of
from netdump.server.status import StatusFile
from netdump.server.tally import Tally
from netdump.server.upkeep import Upkeep
from netdump.server.views import Views
from netdump.store.durable import storage_faults
from netdump.store.files import LocalFiles
from netdump.store.store import Store
from netdump.threads import Threads

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from netdump.index.catalog import LocalCatalog
    from netdump.server.audit import Audit
    from netdump.server.config import Config
    from netdump.server.notify import Notifier
    from netdump.store.files import Files
    from netdump.store.writer import DumpWriter

SPARE_DISK_THREADS: Final = 8  # for opening dumps while every seat is taken
HEADLINE_THREADS: Final = 8  # each with 16 MiB at most
STATUS_S: Final = 60.0  # after which the service manager knows of a change at the latest
DESK_THREADS: Final = 16  # for the API and small things


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What a collector finds around it; tests put something else there.

    sockets: listening ones inherited from the service manager, by role. files: None for the store's own. measure: None
    for the file system of the store. clock: seconds since 1970, by which hosts' certificates are judged.
    """

    audit: Audit
    sockets: dict[str, socket.socket]
    files: Files | None = None
    measure: Callable[[], Measure] | None = None
    clock: Callable[[], float] = time.time


class Collector:
    """One collector. `start`, then `stop`, each once, on one event loop."""

    def __init__(self, directory: Path, config: Config, around: Surroundings) -> None:
        self._directory = directory
        self._config = config
        self._closing = AsyncExitStack()
        self.ingest_address = config.ingest.listen
        self.api_address = config.api.listen
        self._tally = Tally(around.audit)
        self._around = dataclasses.replace(around, audit=self._tally)
        self._certificate = CertificateWatch(directory, self._tally, clock=around.clock)
        self._upkeep = Upkeep(self._tally)
        self._health: Health | None = None

    async def start(self) -> None:
        """Take the folder, bring the index up to date, listen.

        Raises BusyError (another collector runs on the folder), NotACollectorError, AddressError, PkiError, StoreError;
        nothing is left running then.
        """
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    @property
    def ready(self) -> str:
        """One line: where it listens."""
        return f"ready: ingest {self.ingest_address}, api {self.api_address}"

    @property
    def status(self) -> str:
        """The same, and before it what is wrong, as of a minute ago at most."""
        said = [] if self._health is None else self._health.headlines
        return "; ".join([*said, self.ready])

    def keep_settings(self) -> None:
        """Say that settings are not read anew."""
        self._around.audit("settings-kept", reason="settings are read at a start: restart the collector, at any time")

    async def stop(self) -> None:
        """Accept no more, tell all hosts, make durable what is verified, finish answers, give everything back."""
        await self._closing.aclose()

    async def _start(self) -> None:
        directory, config, audit = self._directory, self._config, self._around.audit
        with storage_faults(f"looking for the store in {directory}"):
            if not (directory / STORE_NAME).is_dir():
                raise NotACollectorError(
                    f"{directory} is not a collector's folder (no {STORE_NAME}/): make one with `netdump init`"
                )
        written = last_written((directory, directory / STORE_NAME, directory / INDEX_NAME))  # before this start does
        self._take_lock()
        # Whoever made the store may not have made its name durable: a dump in it is no safer than that.
        with storage_faults(f"making the names in {directory} durable"):
            LocalFiles(directory).sync_folder("")
        asyncio.get_running_loop().set_default_executor(Threads(DESK_THREADS + config.api.verifications, "desk"))
        authority = Authority.load(directory)
        store = Store(directory / STORE_NAME, self._around.files)
        await asyncio.to_thread(store.candidates)  # which raises where no dump could be kept either
        catalog = LateCatalog(directory, audit)
        self._closing.push_async_callback(catalog.close)
        await catalog.open_soon()
        space = SpaceWatch(config.space, self._around.measure or measure_of(directory / STORE_NAME))
        recorder = Recorder(catalog.index, Store(directory / STORE_NAME), audit, catalog.mend)
        self._closing.push_async_callback(asyncio.to_thread, recorder.close)
        views = Views(store, space, recorder, audit)
        receipt = functools.partial(receipt_of, directory)
        restorer = Restorer(store, space, recorder, views, audit, receipt=receipt)
        self._closing.push_async_callback(restorer.close)
        scrubber = self._scrubber(recorder, restorer)
        self._closing.push_async_callback(scrubber.close)
        context = self._arrival_context(space, views, receipt, DiskFailures(store.try_out))
        senders = Senders(authority, audit, written=written, clock=self._around.clock)
        ingest = self._ingest_service(senders, store, context, recorder, restorer)
        desk = self._desk(authority, store, space, catalog.get)
        endpoints = enrolment.ENDPOINTS + dumps.ENDPOINTS + packed.ENDPOINTS + runs.ENDPOINTS
        api = ApiService(build_app(desk, endpoints), config.api)
        self._closing.push_async_callback(api.close)
        self._closing.callback(desk.stopping.set)
        self._closing.push_async_callback(ingest.close)
        self._closing.callback(context.stopping.set)
        show = await self._listen(ingest, api)
        await catalog.begin(functools.partial(self._begin, recorder, restorer, scrubber))
        self._closing.push_async_callback(catalog.stop_trying)
        senders.look()
        parts = Parts(
            senders,
            self._certificate,
            self._upkeep,
            space,
            views,
            context.disk_failures,
            recorder,
            scrubber,
            self._tally,
        )
        health = Health(parts, str(self.ingest_address), str(self.api_address), self._around.clock)
        self._look_after(authority, senders, show, health)
        # Not waited for: a file system that hangs is no reason to receive nothing.
        asyncio.get_running_loop().run_in_executor(None, self._empty_trash, store, desk.keep_on)

    def _look_after(
        self,
        authority: Authority,
        senders: Senders,
        show: Callable[[dict[str, ssl.SSLContext]], None],
        health: Health,
    ) -> None:
        """Say where it listens, and look after what nobody else does for as long as it runs."""
        file = StatusFile(self._directory)
        self._closing.callback(file.close)
        with suppress(StorageFaultError):  # a full disk is no reason to receive nothing; the look that follows says it
            file.write(health.first)
        self._health = health
        for what, look in (
            ("the clock", functools.partial(asyncio.to_thread, senders.look)),
            ("the revocations", functools.partial(asyncio.to_thread, senders.look_at_revocations)),
            ("enrolment and renewal", functools.partial(asyncio.to_thread, authority.check_issuing)),
            ("the collector's certificate", functools.partial(self._certificate.renew, show)),
            ("serve.json", functools.partial(asyncio.to_thread, lambda: file.write(health.look()))),
        ):
            self._closing.push_async_callback(_cancelled, asyncio.create_task(self._upkeep.keep(what, look)))

    def _empty_trash(self, store: Store, keep_on: Callable[[int], None]) -> None:
        try:
            store.empty_trash(lambda: keep_on(0))
        except BusyError:
            pass  # the collector stops: at its next start
        except StoreError as error:
            self._around.audit("trash-kept", reason=str(error))

    def _desk(self, authority: Authority, store: Store, space: SpaceWatch, opened: Callable[[], LocalCatalog]) -> Desk:
        config, audit = self._config, self._around.audit
        often = config.api.enrolments_per_minute, config.api.enrolments_per_minute_per_source
        daily = config.api.enrolments_per_minute * (DAY_S // 60), RENEWALS_PER_DAY
        now = asyncio.get_running_loop().time()
        return Desk(
            authority=authority,
            opened=opened,
            store=store,
            config=config,
            space=space,
            audit=audit,
            strangers=Rationed(audit),
            ingest_address=lambda: self.ingest_address,
            enrolments=RateLimit(*often, now),
            renewals=RateLimit(*often, now),
            renewals_by_day=RateLimit(*daily, now, DAY_S),
            verifications=asyncio.Semaphore(config.api.verifications),
        )

    async def _begin(self, recorder: Recorder, restorer: Restorer, scrubber: Scrubber) -> None:
        """Do what needs the index, and tell it of what has come about while it was not there."""
        recorder.settle()
        if self._config.store.keep_vmcore:
            # The newest first, which are looked at, and given up last when dumps need the room.
            for dump_id in reversed(await asyncio.to_thread(recorder.complete, restored=False)):
                restorer.add(dump_id)
        if self._config.scrub.enabled:
            scrubber.start()

    def _scrubber(self, recorder: Recorder, restorer: Restorer) -> Scrubber:
        config, loop = self._config, asyncio.get_running_loop()

        def again(dump_id: str) -> None:
            if config.store.keep_vmcore:
                loop.call_soon_threadsafe(restorer.add, dump_id)

        return Scrubber(
            self._directory,
            self._around.files or LocalFiles(self._directory / STORE_NAME),
            config.scrub,
            recorder=recorder,
            restore=again,
            audit=self._around.audit,
        )

    def _arrival_context(
        self,
        space: SpaceWatch,
        views: Views,
        receipt: Callable[[DumpWriter], wire.Receipt],
        disk_failures: DiskFailures,
    ) -> ArrivalContext:
        config = self._config
        verifiers = Threads(len(os.sched_getaffinity(0)), "verify")
        seats = config.limits.active_dumps + config.limits.slow_dumps
        disks = Threads(seats + SPARE_DISK_THREADS, "disk")
        headlines = Threads(HEADLINE_THREADS, "headline")
        for pool in (verifiers, disks, headlines):
            self._closing.push_async_callback(asyncio.to_thread, pool.shutdown)
        return ArrivalContext(
            verifiers=verifiers,
            disks=disks,
            headlines=headlines,
            space=space,
            ingest=config.ingest,
            storage=config.store,
            receipt=receipt,
            room=views.room,
            disk_failures=disk_failures,
        )

    def _ingest_service(
        self, senders: Senders, store: Store, context: ArrivalContext, recorder: Recorder, restorer: Restorer
    ) -> IngestService:
        config, audit = self._config, self._around.audit
        reception = Reception(
            store,
            context,
            config.limits,
            recorder=recorder,
            on_complete=restorer.add if config.store.keep_vmcore else lambda _: None,
            audit=audit,
        )
        hosts = HostGate(config.limits, asyncio.get_running_loop().time())
        return IngestService(senders, config.ingest, hosts, reception.attend, audit, stop=reception.stop)

    async def _listen(self, ingest: IngestService, api: ApiService) -> Callable[[dict[str, ssl.SSLContext]], None]:
        """Open both services. Returns what shows another certificate from then on."""
        config, audit = self._config, self._around.audit
        limits, contexts = config.limits, self._certificate.contexts()
        hosts = Listener(
            "ingest",
            contexts["ingest"],
            Gate(
                GateLimits(
                    limits.connections,
                    limits.connections_per_source,
                    limits.handshakes,
                    limits.handshakes_per_source,
                )
            ),
            handshake_s=config.ingest.handshake_s,
            serve=ingest.serve,
            audit=audit,
        )
        readers = Listener(
            "api",
            contexts["api"],
            Gate(
                GateLimits(
                    config.api.connections,
                    config.api.connections_per_source,
                    config.api.connections,
                    config.api.connections_per_source,
                )
            ),
            handshake_s=config.ingest.handshake_s,
            serve=api.serve,
            audit=audit,
        )
        inherited = self._around.sockets
        host_socket = inherited.get("ingest") or bind(config.ingest.listen)
        self._closing.callback(host_socket.close)
        reader_socket = inherited.get("api") or bind(config.api.listen)
        self._closing.callback(reader_socket.close)
        self.ingest_address, self.api_address = address_of(host_socket), address_of(reader_socket)
        for listener, sock in ((hosts, host_socket), (readers, reader_socket)):
            self._closing.push_async_callback(listener.close)
            await listener.open([sock])

        def show(new: dict[str, ssl.SSLContext]) -> None:
            hosts.show(new["ingest"])
            readers.show(new["api"])

        return show

    def _take_lock(self) -> None:
        """One collector per folder: two would fence each other's dumps."""
        try:
            descriptor = os.open(
                self._directory / SERVE_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise ServeError(
                f"{self._directory} cannot be worked on: {error.strerror}; run this as its owner"
            ) from error
        self._closing.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another collector runs on {self._directory}, or its index is being rebuilt") from None
        forget_status(self._directory)


def receipt_of(directory: Path, writer: DumpWriter) -> wire.Receipt:
    """The receipt of a complete dump, signed and made durable now if there is none yet. Raises PkiError, StoreError."""
    manifest, document = writer.manifest, writer.receipt()
    assert manifest is not None
    if not document:
        document = sign_receipt(
            directory,
            {
                "id": manifest.id,
                "host": manifest.host,
                "image_bytes": manifest.image_bytes,
                "chunks": manifest.chunks,
                "root": manifest.root.hex(),
                "completed": manifest.completed,
            },
        )
        writer.put_receipt(document)
    return wire.Receipt(manifest.root, document)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _has_terminal() -> bool:
    """Whether there is a terminal that this process belongs to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def run(collector: Collector, notifier: Notifier, announce: Callable[[str], None]) -> None:
    """Run until SIGTERM, SIGINT, or the end of the terminal if there is one, then stop in order.

    announce is given one line once the collector listens. SIGHUP without a terminal is somebody's wish that settings be
    read anew: it must not be the end, after which a service manager starts nothing again.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        loop.add_signal_handler(signal.SIGHUP, stop.set if _has_terminal() else collector.keep_settings)
    await collector.start()
    try:
        announce(collector.ready)
        notifier.ready(status := collector.status)
        while not stop.is_set():
            try:
                async with asyncio.timeout(min(notifier.watchdog_s or STATUS_S, STATUS_S)):
                    await stop.wait()
            except TimeoutError:
                if notifier.watchdog_s is not None:
                    notifier.alive()
                if status != collector.status:
                    notifier.status(status := collector.status)
    finally:
        notifier.stopping()
        await collector.stop()
