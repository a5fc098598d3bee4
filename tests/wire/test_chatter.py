from __future__ import annotations

import pytest

from netdump.errors import RemoteProtocolError
from netdump.wire import Connection, Hello, Keepalive, Role, pack
from netdump.wire._chatter import Chatter
from netdump.wire._registry import CHATTER_MAX, CHATTER_PER_SECOND
from tests.wire.examples import HELLO, RESUME

UNKNOWN = b"\x7f\xff\0\0\0\0\0\x05empty"


def test_a_burst_and_then_so_many_a_second() -> None:  # [W-63]
    chatter = Chatter(10.0)
    for _ in range(CHATTER_MAX):
        chatter.take(8, 10.0)
    with pytest.raises(RemoteProtocolError) as caught:
        chatter.take(8, 10.0)
    assert caught.value.reason == "unexpected-message"
    for _ in range(CHATTER_PER_SECOND):
        chatter.take(8, 11.0)
    with pytest.raises(RemoteProtocolError):
        chatter.take(8, 11.0)
    assert chatter.bytes == 8 * (CHATTER_MAX + CHATTER_PER_SECOND)


def test_silence_earns_no_more_than_a_burst() -> None:
    chatter = Chatter(0.0)
    for _ in range(CHATTER_MAX):
        chatter.take(8, 1e9)
    with pytest.raises(RemoteProtocolError):
        chatter.take(8, 1e9)


@pytest.mark.parametrize("frame", [pack(Keepalive()), UNKNOWN], ids=["keepalive", "unknown"])
def test_a_connection_counts_both_kinds(frame: bytes) -> None:  # [W-63]
    core = Connection(Role.COLLECTOR, 0.0)
    core.receive_data(pack(HELLO), 0.0)
    assert isinstance(core.next_event(), Hello)
    core.send(RESUME, 0.0)
    core.receive_data(frame * CHATTER_MAX, 0.0)
    while core.next_event() is not None:
        pass
    assert core.chatter_bytes == len(frame) * CHATTER_MAX
    core.receive_data(frame, 0.0)
    with pytest.raises(RemoteProtocolError, match="say nothing"):
        core.next_event()


def test_a_client_that_keeps_alive_for_hours_is_not_counted_out() -> None:
    core = Connection(Role.COLLECTOR, 0.0)
    core.receive_data(pack(HELLO), 0.0)
    core.next_event()
    core.send(RESUME, 0.0)
    for second in range(10 * CHATTER_MAX):
        core.receive_data(pack(Keepalive()), float(second))
        assert isinstance(core.next_event(), Keepalive)
