"""All connections of hosts: who may speak, and how they end with the collector."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

from netdump import wire
from netdump.pki import Authority, Role, init_authority
from netdump.pki.certificates import key_pem, new_key
from netdump.pki.identity import fingerprint
from netdump.pki.request import make_request
from netdump.pki.token import parse_token
from netdump.server.audit import STRANGERS_PER_MINUTE
from netdump.server.collector import SPARE_DISK_THREADS
from netdump.server.config import DAY_S, Ingest
from netdump.server.ingest import IngestService
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import PATIENCE_S, Events, Host, Papers, Rig
from tests.server.test_reception import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.server.listener import Visitor
    from netdump.store.origin import Origin
    from netdump.store.writer import DumpWriter
    from tests.server.conftest import Template

DUMP = SampleDump(seed=11, image_bytes=60_000, chunk_bytes=8_192)


def error_of(answer: wire.Message | None) -> wire.ErrorCode:
    assert isinstance(answer, wire.Error), answer
    return answer.code


def test_without_the_protocol_there_is_no_conversation(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig, Host(rig, web1, alpn=None) as host:
        assert host.ended()
        assert host.wire.state is wire.State.OPENING
        assert rig.events.wait("host-refused")["reason"] == "no common ALPN protocol"


@pytest.mark.parametrize("role", ["ann", "olga"])
def test_only_hosts_may_send(folder: Path, template: Template, role: str) -> None:  # [W-05]
    with Rig(folder) as rig, Host(rig, getattr(template, role)) as host:
        answer = host.hear()
        assert error_of(answer) is wire.ErrorCode.NOT_ALLOWED
        assert "enroll with a host's token" in cast("wire.Error", answer).text
        assert host.ended()


def test_a_revoked_host_is_refused_at_its_next_connection(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig:
        with Host(rig, web1) as before:
            before.resume(DUMP)
            Authority.load(folder).revoke(web1.fingerprint)
            with Host(rig, web1) as host:
                assert error_of(host.hear()) is wire.ErrorCode.NOT_ALLOWED
                assert host.ended()
        assert not rig.events.all("dump-complete")


def test_a_host_out_of_its_dates_is_told_so(folder: Path) -> None:  # [W-04]
    now = time.time()
    key, then = new_key(), now - 3 * 365 * DAY_S
    shutil.rmtree(folder / "pki")
    init_authority(folder, ["localhost"], now=then)
    authority = Authority.load(folder)
    secret = parse_token(authority.make_token("web1", Role.HOST, now=then)).secret_text()
    granted = authority.redeem(secret, make_request(key), then)
    file = folder.parent / "dated.pem"
    file.write_text(granted.certificate + key_pem(key))
    with Rig(folder) as rig, Host(rig, Papers(file, Role.HOST, "web1", fingerprint(key.public_key()))) as host:
        answer = host.hear()
        assert error_of(answer) is wire.ErrorCode.NOT_ALLOWED
        assert re.search("expired at .*enroll again", cast("wire.Error", answer).text)
        assert host.ended()


def test_where_revocation_cannot_be_looked_up_nobody_comes_in(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig:
        (folder / "pki" / "revoked").rename(folder / "pki" / "elsewhere")
        with Host(rig, web1) as host:
            assert error_of(host.hear()) is wire.ErrorCode.INTERNAL
            assert host.ended()


def test_a_host_has_so_many_connections_and_no_more(folder: Path, web1: Papers, web2: Papers) -> None:
    limits = {"limits": {"connections_per_host": 2, "connections_per_host_per_minute": 6}}
    with Rig(folder, limits) as rig, Host(rig, web1) as one, Host(rig, web1) as two:
        one.resume(DUMP)
        rig.events.wait("host-connected", 2)
        with Host(rig, web1) as third:
            assert third.hear() is None
            assert rig.events.wait("host-refused")["reason"] == "web1: connections-per-host"
        with Host(rig, web2) as other:
            assert isinstance(other.hello(DUMP, dump_id=bytes(15) + b"\1"), wire.Resume)
        two.socket.close()
        assert one.wire.state is wire.State.HEADLINE


def test_a_host_that_does_not_wait_for_answers_leaves_threads_to_others(
    folder: Path, web1: Papers, web2: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it asks for counts as its connection until it is done, though that one is gone."""
    gate, begun, open_writer = threading.Event(), threading.Semaphore(0), Store.open_writer

    def slow(store: Store, origin: Origin, **options: Any) -> DumpWriter:
        if origin.host == "web1":
            begun.release()
            assert gate.wait(PATIENCE_S)
        return open_writer(store, origin, **options)

    monkeypatch.setattr(Store, "open_writer", slow)
    limits = {"limits": {"active_dumps": 1, "slow_dumps": 1, "connections_per_host": 4, "active_dumps_per_host": 4}}
    with Rig(folder, limits) as rig:
        try:
            for number in range(1 + 1 + SPARE_DISK_THREADS):
                with Host(rig, web1) as host:
                    # In one piece, so that the end is seen with HELLO: then nothing is read before the answer.
                    host.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                    with suppress(OSError):
                        host.say(wire.Hello(number.to_bytes(16, "big"), 60_000, 4096, 0))
                        host.socket.unwrap()
                assert begun.acquire(timeout=PATIENCE_S) if number < 4 else not begun.acquire(blocking=False)
            with Host(rig, web2) as other:
                assert isinstance(other.hello(DUMP), wire.Resume)
        finally:
            gate.set()

        def has_place() -> bool:
            with suppress(OSError), Host(rig, web1) as host:
                return isinstance(host.hello(DUMP, dump_id=bytes(16)), wire.Resume)
            return False

        wait_until(has_place)


def test_many_hosts_may_be_behind_one_address(folder: Path, web1: Papers, web2: Papers, template: Template) -> None:
    with Rig(folder, {"limits": {"connections_per_source": 1}}) as rig, Host(rig, web1) as one:
        one.resume(DUMP)
        with Host(rig, web2) as two:
            assert isinstance(two.hello(DUMP, dump_id=bytes(15) + b"\1"), wire.Resume)
            with Host(rig, template.ann) as stranger:
                assert error_of(stranger.hear()) is wire.ErrorCode.NOT_ALLOWED
            with Host(rig, web1) as three:  # waits until the stranger has gone
                assert isinstance(three.hello(DUMP, dump_id=bytes(15) + b"\2"), wire.Resume)


@pytest.mark.asyncio
async def test_who_is_refused_cannot_fill_the_log() -> None:
    class Stranger:
        """Speaks another protocol."""

        address = "192.0.2.1"

        def __init__(self) -> None:
            self.tls = self.transport = self

        def leave(self) -> None: ...
        def abort(self) -> None: ...
        def selected_alpn_protocol(self) -> str:
            return "h2"

    events, nowhere = Events(), cast("Any", None)
    service = IngestService(nowhere, Ingest(), nowhere, nowhere, events)
    begun = time.monotonic()
    for _ in range(3 * STRANGERS_PER_MINUTE):
        service.serve(cast("Visitor", Stranger()))
    refilled = (time.monotonic() - begun) / 60 * STRANGERS_PER_MINUTE
    assert 0 <= len(events.all("host-refused")) - STRANGERS_PER_MINUTE <= refilled


def test_a_stop_is_announced(folder: Path, web1: Papers) -> None:
    with Rig(folder) as rig:
        host, idle = Host(rig, web1), Host(rig, web1)
        host.resume(DUMP)
    with host, idle:
        assert error_of(host.hear()) is wire.ErrorCode.SHUTTING_DOWN
        assert error_of(idle.hear()) is wire.ErrorCode.SHUTTING_DOWN
        assert host.ended()


def test_a_host_that_goes_frees_its_place(folder: Path, web1: Papers) -> None:
    limits = {"connections": 3, "active_dumps": 1, "slow_dumps": 1, "waiting_dumps": 1}
    with Rig(folder, {"limits": limits}) as rig:
        for attempt in range(5):
            with connect_when_free(rig, web1) as host:
                host.resume(DUMP)
            rig.events.wait("dump-interrupted", attempt + 1)


def connect_when_free(rig: Rig, papers: Papers) -> Host:
    while True:
        try:
            return Host(rig, papers)
        except (ssl.SSLError, ConnectionError):
            continue
