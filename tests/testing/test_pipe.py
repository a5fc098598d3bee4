from __future__ import annotations

import pytest

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.testing.pipe import Pipe
from netdump.wire import Error, ErrorCode, Hello, Keepalive, Resume, Role, State

HELLO = Hello(bytes(16), 1000, 4096, 0)
RESUME = Resume(0, bytes(32), 0, headline=True, credit=2 << 20, keepalive=5, idle=15)


def streaming() -> Pipe:
    pipe = Pipe()
    pipe.send(Role.CLIENT, HELLO)
    assert pipe.take(Role.COLLECTOR) == [HELLO]
    pipe.send(Role.COLLECTOR, RESUME)
    assert pipe.take(Role.CLIENT) == [RESUME]
    return pipe


def states(pipe: Pipe) -> list[State]:
    return [pipe.client.state, pipe.collector.state]


def test_messages_arrive_when_taken() -> None:
    pipe = Pipe()
    pipe.send(Role.CLIENT, HELLO)
    assert states(pipe) == [State.OPENED, State.OPENING]
    assert pipe.take(Role.COLLECTOR, 9) == []
    assert pipe.take(Role.COLLECTOR) == [HELLO]
    assert pipe.on_the_way(Role.COLLECTOR) == b""
    assert states(pipe) == [State.OPENED, State.OPENED]


def test_both_ends() -> None:
    pipe = streaming()
    assert pipe.end(Role.CLIENT) is pipe.client
    assert pipe.end(Role.COLLECTOR) is pipe.collector
    assert pipe.client.state is pipe.collector.state is State.STREAMING


def test_time() -> None:
    pipe = streaming()
    pipe.now = 4
    pipe.look(Role.COLLECTOR)
    assert pipe.on_the_way(Role.CLIENT) == b""
    pipe.now = 5
    pipe.look(Role.COLLECTOR)
    assert pipe.take(Role.CLIENT) == [Keepalive()]
    pipe.now = 20
    with pytest.raises(RemoteProtocolError) as caught:
        pipe.look(Role.CLIENT)
    assert caught.value.reason == "idle-timeout"


def test_failure() -> None:
    pipe = streaming()
    with pytest.raises(LocalProtocolError):
        pipe.send(Role.CLIENT, HELLO)
    pipe.post(Role.CLIENT, b"\xff" * 8)
    with pytest.raises(RemoteProtocolError) as caught:
        pipe.take(Role.COLLECTOR)
    pipe.fail(Role.COLLECTOR, caught.value)
    assert pipe.take(Role.CLIENT) == [Error(ErrorCode.UNKNOWN_CRITICAL, str(caught.value))]
    assert pipe.client.state is pipe.collector.state is State.CLOSED
