"""Who may say what: every message of the protocol and every route of the API, for everybody who can come.

Both tables are written by hand and held to what the code has: a new message or route without a row fails.
"""

from __future__ import annotations

import hashlib
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from netdump import wire
from netdump.pki import Authority, Role
from netdump.server import api as api_module
from netdump.testing.sample_dump import SampleDump
from netdump.wire import MessageType
from tests.server.rig import Host, Papers, Rig, issue
from tests.server.test_api import MATRIX

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.server.api import Endpoint
    from tests.server.conftest import Template

MINE = SampleDump(seed=91, image_bytes=20_000)
THEIRS = SampleDump(seed=99, image_bytes=20_000, host="web2")
HELLO: Final = wire.Hello(MINE.dump_id, 20_000, 4096, 0)
RAW: Final = MINE.headline

# What is sent, and what a host hears of it: as its first message, after RESUME, after its headline. None: nothing.
UNEXPECTED: Final = wire.ErrorCode.UNEXPECTED_MESSAGE
MESSAGES: Final[dict[MessageType, tuple[wire.Message, object, object, object]]] = {
    MessageType.HELLO: (HELLO, wire.Resume, UNEXPECTED, UNEXPECTED),
    MessageType.RESUME: (
        wire.Resume(0, bytes(32), 0, headline=True, credit=wire.CREDIT_MAX, keepalive=60, idle=600),
        UNEXPECTED,
        UNEXPECTED,
        UNEXPECTED,
    ),
    MessageType.DEFER: (wire.Defer(1), UNEXPECTED, UNEXPECTED, UNEXPECTED),
    MessageType.DECLINE: (wire.Decline(wire.DeclineCode.QUOTA), UNEXPECTED, UNEXPECTED, UNEXPECTED),
    MessageType.HEADLINE: (
        wire.Headline(wire.CodecId.STORED, len(RAW), hashlib.sha256(RAW).digest(), RAW),
        UNEXPECTED,
        None,
        UNEXPECTED,
    ),
    MessageType.CHUNK: (MINE.chunks[0], UNEXPECTED, UNEXPECTED, None),
    MessageType.ACK: (wire.Ack(0), UNEXPECTED, UNEXPECTED, UNEXPECTED),
    MessageType.KEEPALIVE: (wire.Keepalive(), UNEXPECTED, None, None),
    MessageType.FINISH: (wire.Finish(20_000, 1, bytes(32)), UNEXPECTED, UNEXPECTED, wire.ErrorCode.BAD_ORDER),
    MessageType.RECEIPT: (wire.Receipt(bytes(32), b"{}"), UNEXPECTED, UNEXPECTED, UNEXPECTED),
    MessageType.ERROR: (wire.Error(wire.ErrorCode.INTERNAL), None, None, None),
}


def test_the_matrix_knows_every_message() -> None:
    assert set(MESSAGES) == set(MessageType)


def heard(host: Host) -> object:
    """What the collector says to it: a kind of message, a code of ERROR, or None when it only keeps alive or goes."""
    host.rig.skip(7)  # time for KEEPALIVE to come, if nothing else does
    answer = host.hear_any()
    if isinstance(answer, wire.Error):
        return answer.code
    return None if answer is None or isinstance(answer, wire.Keepalive | wire.Ack) else type(answer)


@pytest.mark.parametrize("message", MessageType, ids=lambda message: message.name)
def test_every_message_of_a_host(folder: Path, web1: Papers, message: MessageType) -> None:
    sent, first, resumed, streaming = MESSAGES[message]
    with Rig(folder) as rig:
        for expected, before in ((first, 0), (resumed, 1), (streaming, 2)):
            with Host(rig, web1) as host:
                dump = SampleDump(seed=91 + before, image_bytes=20_000)
                if before:
                    host.resume(dump)
                if before == 2:
                    host.headline(dump)
                host.say_raw(wire.pack(sent))
                if isinstance(sent, wire.Hello) and not before:
                    host.wire.send(sent, 0.0)
                assert heard(host) == expected, (message, before)


@pytest.mark.parametrize("message", MessageType, ids=lambda message: message.name)
def test_every_message_of_those_who_are_no_hosts(folder: Path, template: Template, message: MessageType) -> None:
    revoked = issue(folder, Role.HOST, "gone")
    Authority.load(folder).revoke(revoked.fingerprint)
    with Rig(folder) as rig:
        for papers in (template.ann, template.olga, revoked):
            with Host(rig, papers) as host:
                host.say_raw(wire.pack(MESSAGES[message][0]))
                answer = host.hear()
                assert isinstance(answer, wire.Error)
                assert answer.code is wire.ErrorCode.NOT_ALLOWED
        assert says_nothing_to_nobody(rig, MESSAGES[message][0])
        assert not (folder / "dumps").exists() or not list((folder / "dumps").iterdir())


def says_nothing_to_nobody(rig: Rig, message: wire.Message) -> bool:
    """Whoever has no certificate does not get as far as the protocol."""
    with suppress(ssl.SSLError, ConnectionError), Host(rig, None) as nobody:
        nobody.say_raw(wire.pack(message))
        return nobody.hear_any() is None
    return True


def test_anothers_dump_is_nobody_elses_in_any_state(folder: Path, web1: Papers, web2: Papers) -> None:
    """Begun, complete: to anybody else the answer is the same, and so is the dump afterwards."""
    with Rig(folder) as rig:
        for complete in (False, True):
            with Host(rig, web2) as owner:
                if complete:
                    owner.send_all(THEIRS)
                    rig.events.wait("dump-restored")
                else:
                    owner.resume(THEIRS)
                kept = {path: path.read_bytes() for path in (folder / "dumps").rglob("*") if path.is_file()}
                assert kept
                with Host(rig, web1) as thief:
                    answer = thief.hello(THEIRS)
                    assert answer == wire.Decline(wire.DeclineCode.NOT_OWNER)
                assert {path: path.read_bytes() for path in kept} == kept
                if not complete:
                    owner.headline(THEIRS)  # which is still taken
                    owner.chunks(THEIRS.chunks[:2])


def test_the_matrix_of_the_api_has_every_route_that_is_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the running collector routes, not what some module lists."""
    routed: set[tuple[str, str]] = set()
    build = api_module.build_app

    def spy(desk: api_module.Desk, endpoints: tuple[Endpoint, ...]) -> object:
        app = build(desk, endpoints)
        for route in app.routes:
            routed.update((method, route.path) for method in route.methods - {"HEAD"})  # type: ignore[attr-defined]
        return app

    monkeypatch.setattr("netdump.server.collector.build_app", spy)
    with Rig(folder):
        pass
    assert routed == {(row.method, row.path) for row in MATRIX}
