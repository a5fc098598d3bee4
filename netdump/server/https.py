"""HTTP/1.1 on TLS connections: uvicorn's protocol, with deadlines and the peer's certificate.

Owns connections of the API. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import h11
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from netdump.client.tcpinfo import DeliveryRate

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from netdump.server.config import Api
    from netdump.server.listener import Visitor

KEEP_ALIVE_S: Final = 15  # between two requests
HEAD_MAX: Final = 16 * 1024
HEAD_LINES_MAX: Final = 64
GOODBYE_S: Final = 5.0  # for answers under way when the collector stops

_BLANK: Final = re.compile(rb"\n\r?\n")


class _Alarm:
    """Something that happens after a time, unless it is put off."""

    __slots__ = ("_action", "_delay_s", "_timer")

    def __init__(self, delay_s: float, action: Callable[[], None]) -> None:
        self._delay_s = delay_s
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Count from now, unless it counts already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._action)

    def disarm(self) -> None:
        """Do not count."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Requests(h11.Connection):
    """Requests with few headers, whose bodies have a length.

    What strangers send must not keep the loop from hosts: thousands of headers of two bytes take it 40 ms, and chunks
    of a byte, of which none of ours has any, a second for 256 KiB, whether the request has its answer by then or not.
    """

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """As h11 has it. Raises h11.RemoteProtocolError also for what has too many headers, or comes in chunks."""
        if self.their_state is h11.IDLE and _count_lines(self.trailing_data[0]) > HEAD_LINES_MAX:
            raise h11.RemoteProtocolError(f"more than {HEAD_LINES_MAX} lines")
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            raise h11.RemoteProtocolError("a request in chunks")
        return event


def _count_lines(data: bytes) -> int:
    """Of the head that it begins with, as far as that is here."""
    blank = _BLANK.search(data)
    return data.count(b"\n", 0, len(data) if blank is None else blank.end() - 1)


class _ApiProtocol(H11Protocol):
    """One connection. A request must arrive within request_s; an answer waits for its reader stall_s at most."""

    def __init__(
        self, config: UvicornConfig, state: ServerState, visitor: Visitor, settings: Api, on_lost: Callable[[], None]
    ) -> None:
        # app_state becomes request.state; certificate None: the peer showed none.
        certificate = visitor.tls.getpeercert(binary_form=True)
        loop = asyncio.get_running_loop()
        seen = {"certificate": certificate, "network": DeliveryRate(visitor.transport.get_extra_info("socket"))}
        super().__init__(config=config, server_state=state, app_state=seen, _loop=loop)
        self.conn = _Requests(h11.SERVER, HEAD_MAX)
        self._visitor = visitor
        self._on_lost = on_lost
        self._request_alarm = _Alarm(settings.request_s, self._give_up)
        self._stall_alarm = _Alarm(settings.stall_s, self._give_up)

    def start(self) -> None:
        """Take over from the listener."""
        self._visitor.transport.set_protocol(self)
        self.connection_made(self._visitor.transport)
        self._request_alarm.arm()
        self._visitor.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes came: is a whole request there?"""
        super().data_received(data)
        if self._is_under_way and not self.cycle.more_body:
            self._request_alarm.disarm()
        else:
            self._request_alarm.arm()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. A request that is under way has its answer by that, or a part of one already."""
        if self._is_under_way:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with suppress(h11.LocalProtocolError):  # of one that has its answer; of HEAD, whose answer has no body
            super().send_400_response(msg)
        self.transport.close()

    def on_response_complete(self) -> None:
        """An answer is written. What was waiting behind its request is looked at again; silence is uvicorn's to end."""
        self._request_alarm.disarm()
        super().on_response_complete()
        if self._is_under_way and self.cycle.more_body:
            self._request_alarm.arm()  # uvicorn waits for the rest of a request for ever

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""
        super().pause_writing()
        self._stall_alarm.arm()

    def resume_writing(self) -> None:
        """It has read."""
        self._stall_alarm.disarm()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._request_alarm.disarm()
        self._stall_alarm.disarm()
        super().connection_lost(exc)
        self._visitor.leave()
        self._on_lost()

    @property
    def _is_under_way(self) -> bool:
        """Whether the head of a request has come whose answer is not written."""
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self) -> None:
        self.transport.abort()


class ApiService:
    """All connections of the API."""

    def __init__(self, app: Starlette, settings: Api) -> None:
        self._settings = settings
        self._state = ServerState()
        self._idle = asyncio.Event()
        self._config = UvicornConfig(
            app,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()

    def serve(self, visitor: Visitor) -> None:
        """Take a connection whose handshake is done."""
        _ApiProtocol(self._config, self._state, visitor, self._settings, self._lost).start()

    async def close(self) -> None:
        """Finish the answers under way, within reason, and close all connections."""
        for connection in tuple(self._state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(GOODBYE_S):
                while self._state.connections:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            for connection in tuple(self._state.connections):
                connection.transport.abort()
        if self._state.tasks:
            # Not cancelled: uvicorn would take that for a mistake. Without their connections they end by themselves.
            await asyncio.wait(tuple(self._state.tasks), timeout=GOODBYE_S)

    def _lost(self) -> None:
        self._idle.set()
