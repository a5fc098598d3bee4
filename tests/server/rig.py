"""A collector in a thread of its own, and blocking peers that talk to it as hosts and analysts do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
import ssl
import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from select import select
from typing import TYPE_CHECKING, Any, Self

import urllib3

from netdump import wire
from netdump.index.catalog import STORE_NAME
from netdump.index.index import Index
from netdump.index.place import NAME as INDEX_NAME
from netdump.pki import Authority, Role, init_authority, make_token
from netdump.pki.certificates import key_pem, new_key
from netdump.pki.identity import fingerprint
from netdump.pki.request import make_request
from netdump.pki.token import parse_token
from netdump.server.collector import Collector, Surroundings
from netdump.server.config import CONFIG_NAME, Address, Config, build, default_text
from netdump.server.hostconnection import LINGER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    from netdump.server.audit import Field
    from netdump.server.space import Measure
    from netdump.store.files import Files
    from netdump.testing.sample_dump import SampleDump

HASTE_S = 0.05
PATIENCE_S = 20.0  # nothing takes this long; whoever waits longer fails
MIB = 1 << 20


class Events:
    """An audit that remembers, and lets tests wait for what they are about."""

    def __init__(self) -> None:
        self._events: list[dict[str, Field]] = []
        self._changed = threading.Condition()

    def __call__(self, event: str, **fields: Field) -> None:
        with self._changed:
            self._events.append({"event": event, **fields})
            self._changed.notify_all()

    def all(self, event: str) -> list[dict[str, Field]]:
        with self._changed:
            return [each for each in self._events if each["event"] == event]

    def wait(self, event: str, count: int = 1) -> dict[str, Field]:
        """The count-th event of that name; waits for it."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: sum(each["event"] == event for each in self._events) >= count, PATIENCE_S
            )
            assert arrived, f"no {count} times {event!r} among {self._events}"
        return self.all(event)[count - 1]


@dataclass(frozen=True)
class Papers:
    """A certificate and its key, in one file, and its fingerprint."""

    file: Path
    role: Role
    name: str
    fingerprint: str


def make_folder(folder: Path) -> None:
    """What `netdump init` makes."""
    folder.mkdir(mode=0o700)
    init_authority(folder, ["localhost", "127.0.0.1"])
    (folder / STORE_NAME).mkdir(mode=0o700)
    (folder / CONFIG_NAME).write_text(default_text())
    Index.open(folder / INDEX_NAME).close()


def issue(folder: Path, role: Role, name: str) -> Papers:
    """A certificate from the authority of a folder."""
    token = parse_token(make_token(folder, name, role))
    key = new_key()
    authority = Authority.load(folder)
    granted = authority.redeem(token.secret_text(), make_request(key))
    file = folder.parent / f"{folder.name}-{role}-{name}.pem"
    file.write_text(granted.certificate + key_pem(key))
    return Papers(file, role, name, fingerprint(key.public_key()))


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward, so that no test waits for a timeout."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


class Rig:
    """One collector on a folder, run by a loop in a thread. A context manager."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        files: Files | None = None,
        measure: Callable[[], Measure] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        document = {name: dict(content) for name, content in (settings or {}).items()}
        document.setdefault("ingest", {}).setdefault("listen", "127.0.0.1:0")
        document.setdefault("api", {}).setdefault("listen", "127.0.0.1:0")
        document.setdefault("space", {"min_free_bytes": 16 * MIB, "min_free_percent": 0, "admit_free_percent": 0})
        self.folder = folder
        self.config: Config = build(document)
        self.events = Events()
        self.collector = Collector(folder, self.config, Surroundings(self.events, {}, files, measure, clock))
        self.loop = SkippingLoop()
        self.loop.set_exception_handler(self._oops)
        self.mistakes: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.do(self.collector.start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            stop = asyncio.run_coroutine_threadsafe(self.collector.stop(), self.loop)
            while not wait([stop], HASTE_S).done:
                self.skip(0.5)  # it need not wait for peers that do not say goodbye
            stop.result()
        finally:
            self._end()
        assert not self.mistakes, self.mistakes

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the collector's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something on the collector's loop."""
        result: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: result.set_result(function(*arguments)))
        return result.result(PATIENCE_S)

    def skip(self, seconds: float) -> None:
        """Let so much time pass for the collector, at once."""

        def forward() -> None:
            self.loop.skipped += seconds

        self.call(forward)

    @property
    def is_running(self) -> bool:
        return not self.loop.is_closed()

    @property
    def ingest(self) -> Address:
        return self.collector.ingest_address

    @property
    def api(self) -> Address:
        return self.collector.api_address

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _oops(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.mistakes.append(context)


class Host:
    """One connection of a host, driven message by message."""

    def __init__(self, rig: Rig, papers: Papers | None, *, alpn: str | None = wire.ALPN) -> None:
        self.rig = rig
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(rig.folder / "pki" / "ca.crt")
        if papers is not None:
            context.load_cert_chain(papers.file)
        if alpn:
            context.set_alpn_protocols([alpn])
        raw = socket.create_connection((rig.ingest.host, rig.ingest.port), PATIENCE_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.wire = wire.Connection(wire.Role.CLIENT, time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, message: wire.Message) -> None:
        """Send one message by the rules."""
        self.socket.sendall(self.wire.send(message, time.monotonic()))

    def say_raw(self, data: bytes) -> None:
        """Send any bytes."""
        self.socket.sendall(data)

    def hear(self) -> wire.Message | None:
        """The next message that is not KEEPALIVE; None: the connection has ended."""
        while True:
            message = self.hear_any()
            if not isinstance(message, wire.Keepalive):
                return message

    def hear_any(self) -> wire.Message | None:
        """The next message; None: the connection has ended."""
        while (message := self.wire.next_event()) is None:
            try:
                data = self.socket.recv(65536)
            except (ssl.SSLError, ConnectionError):
                return None
            if not data:
                return None
            self.wire.receive_data(data, time.monotonic())
        return message

    def hello(self, dump: SampleDump, **changes: Any) -> wire.Message | None:
        """Offer a dump; the answer."""
        origin = dump.origin
        hello = wire.Hello(dump.dump_id, origin.image_bytes, origin.page_bytes, origin.level, origin.agent)
        self.say(hello._replace(**changes))
        return self.hear()

    def resume(self, dump: SampleDump) -> wire.Resume:
        """Offer a dump that is expected to be taken."""
        answer = self.hello(dump)
        assert isinstance(answer, wire.Resume), answer
        return answer

    def headline(self, dump: SampleDump) -> None:
        self.say(headline_of(dump))

    def chunks(self, chunks: Iterable[wire.Chunk]) -> int:
        """Send chunks, waiting for credit as a client does. The image offset acknowledged last."""
        for chunk in chunks:
            raw_bytes = wire.raw_bytes(wire.unpack_runs(chunk.table, chunk.offset, chunk.length))
            while not self.wire.may_send(raw_bytes):
                answer = self.hear()
                assert isinstance(answer, wire.Ack), answer
            self.say(chunk)
        return self.wire.acked_offset

    def await_ack(self, offset: int) -> None:
        """Wait until the image is acknowledged up to offset. What is less than a segment is due after some time."""
        while self.wire.acked_offset < offset:
            while self.rig.is_running and not (self.socket.pending() or select([self.socket], [], [], HASTE_S)[0]):
                self.rig.skip(0.5)
            answer = self.hear()
            assert isinstance(answer, wire.Ack), answer

    def finish(self, dump: SampleDump, root: bytes | None = None) -> wire.Message | None:
        """Send FINISH; what comes when all ACKs are in."""
        self.say(wire.Finish(dump.origin.image_bytes, self.wire.chunks, root or dump.root))
        while isinstance(answer := self.hear(), wire.Ack):
            pass
        return answer

    def send_all(self, dump: SampleDump) -> wire.Receipt:
        """Send what the collector lacks of a dump, to the end, cut as in dump.chunks."""
        answer = self.hello(dump)
        if isinstance(answer, wire.Receipt):
            return answer
        assert isinstance(answer, wire.Resume), answer
        if not answer.headline:
            self.headline(dump)
        self.chunks(chunk for chunk in dump.chunks if chunk.offset >= answer.offset)
        receipt = self.finish(dump)
        assert isinstance(receipt, wire.Receipt), receipt
        return receipt

    def ended(self) -> bool:
        """Wait for the end of the connection, ignoring what still comes. The collector need not linger for us."""
        if self.rig.is_running:
            self.rig.skip(LINGER_S + 0.1)
        with suppress(ssl.SSLError, ConnectionError):
            while self.socket.recv(65536):
                pass
        return True


def headline_of(dump: SampleDump) -> wire.Headline:
    raw = dump.headline
    return wire.Headline(wire.CodecId.STORED, len(raw), hashlib.sha256(raw).digest(), raw)


class Desk:
    """An analyst, or anybody else, at the API."""

    def __init__(self, rig: Rig, papers: Papers | None) -> None:
        self.pool = urllib3.HTTPSConnectionPool(
            "localhost",
            rig.api.port,
            ca_certs=str(rig.folder / "pki" / "ca.crt"),
            cert_file=None if papers is None else str(papers.file),
            retries=False,
            timeout=PATIENCE_S,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def ask(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        return self.pool.request(method, path, **options)

    def get(self, path: str) -> Any:
        """The JSON object at path."""
        answer = self.ask("GET", path)
        assert answer.status == 200, (answer.status, answer.data)
        return json.loads(answer.data)

    def error(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and code of a request that fails."""
        answer = self.ask(method, path, **options)
        error = json.loads(answer.data)["error"]
        assert set(error) == {"code", "message"}
        assert "Traceback" not in error["message"]
        return answer.status, error["code"]


def copy_folder(template: Path, target: Path) -> Path:
    """A collector's folder that is as new."""
    shutil.copytree(template, target)
    return target
