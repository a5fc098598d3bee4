"""A TCP proxy that does to a connection what networks do: cuts it, stalls it, slows it, slices it, damages it.

For tests and the demo. It forwards every connection to one target and applies the faults that a plan names for it, by
its number. Seeded: the sizes of slices and the flipped bits come from one generator per direction of a connection, so
a run can be repeated. Owns sockets and threads (one that accepts, one a connection); knows nothing of TLS or netdump.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RECEIVE_BYTES = 1 << 16
CONNECT_TIMEOUT = 10.0
JOIN_TIMEOUT = 10.0
_LINGER_RESET = struct.pack("ii", 1, 0)  # close() sends RST, not FIN


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to one connection. Positions count bytes from the start of their direction; up is client to target.

    refuse: reset at once, without a connection to the target. cut_up, cut_down: forward that many bytes, then reset
    both sides. close_up, close_down: the same, but end both sides properly (FIN). stall_up, stall_down: forward that
    many bytes, then nothing more, but stay open. slice_max: forward in pieces of 1 to that many bytes. rate: bytes
    per second in each direction. delay: seconds for which all that is received at once is kept back. flip_up,
    flip_down: invert one bit of that byte.
    """

    refuse: bool = False
    cut_up: int | None = None
    cut_down: int | None = None
    close_up: int | None = None
    close_down: int | None = None
    stall_up: int | None = None
    stall_down: int | None = None
    slice_max: int | None = None
    rate: float | None = None
    delay: float = 0.0
    flip_up: int | None = None
    flip_down: int | None = None


NO_FAULTS = Faults()


@dataclass(slots=True)
class Passage:
    """One connection through the proxy. up, down: bytes forwarded so far. ended: set when it is closed."""

    number: int
    faults: Faults
    up: int = 0
    down: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class FaultProxy:
    """Listens on 127.0.0.1, on a port that the kernel chooses, and forwards to target.

    plan: the faults of each connection in turn (after the last: none), or a function from its number (0, 1, …). seed:
    of all random choices. `passages` holds all connections so far, in order. Methods may be called from any thread.
    """

    def __init__(
        self, target: tuple[str, int], plan: Sequence[Faults] | Callable[[int], Faults] = (), seed: int = 0
    ) -> None:
        self.target = target
        self.passages: list[Passage] = []
        self._plan = plan
        self._seed = seed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = False
        self._lock = threading.Lock()
        self._open: set[_Conversation] = set()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def start(self) -> Self:
        """Begin to accept."""
        self._spawn(self._accept)
        return self

    def stop(self) -> None:
        """Reset every connection, close the port, and wait for all threads. May be called again."""
        with self._lock:
            self._stopped = True
        with suppress(OSError):  # not listening any more
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self.cut_all()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT)
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cut_all(self) -> None:
        """Reset every connection that is open now; new ones are accepted as before."""
        with self._lock:
            for conversation in self._open:
                conversation.cut()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="fault-proxy")
        self._threads.append(thread)
        thread.start()

    def _faults(self, number: int) -> Faults:
        if callable(self._plan):
            return self._plan(number)
        return self._plan[number] if number < len(self._plan) else NO_FAULTS

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # stop()
            passage = Passage(len(self.passages), self._faults(len(self.passages)))
            self.passages.append(passage)
            self._spawn(self._serve, passage, client)

    def _serve(self, passage: Passage, client: socket.socket) -> None:
        try:
            if passage.faults.refuse:
                _reset(client)
                return
            try:
                server = socket.create_connection(self.target, CONNECT_TIMEOUT)
            except OSError:
                _reset(client)
                return
            conversation = _Conversation(passage, client, server, self._seed)
            with self._lock:
                self._open.add(conversation)
                if self._stopped:
                    conversation.cut()
            conversation.run()
            with self._lock:
                self._open.remove(conversation)
                conversation.release()
        finally:
            passage.ended.set()


class _Conversation:
    """Both directions of one connection, moved by one thread; cut() may come from another."""

    def __init__(self, passage: Passage, client: socket.socket, server: socket.socket, seed: int) -> None:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
        self._sockets = (client, server)
        self._directions = (
            _Direction(passage, "up", client, server, seed),
            _Direction(passage, "down", server, client, seed),
        )
        self._wake = os.eventfd(0)

    def cut(self) -> None:
        """Make run() reset both sides."""
        os.eventfd_write(self._wake, 1)

    def release(self) -> None:
        """Give back what cut() needs, once nobody calls it any more."""
        os.close(self._wake)

    def run(self) -> None:
        """Forward until both directions have ended, a fault ends the connection, or cut()."""
        try:
            proper = self._forward()
        except OSError:
            proper = False
        for one in self._sockets:
            if proper:
                one.close()
            else:
                _reset(one)

    def _forward(self) -> bool:
        """Returns whether the connection ends properly (True) or by a reset."""
        while not all(direction.ended for direction in self._directions):
            poller = select.poll()
            poller.register(self._wake, select.POLLIN)
            wanted = {one.fileno(): 0 for one in self._sockets}
            for direction in self._directions:
                direction.want(wanted)
            for descriptor, events in wanted.items():
                if events:
                    poller.register(descriptor, events)
            waits = [wait for direction in self._directions if (wait := direction.delay()) is not None]
            ready = dict(poller.poll(min(waits) * 1000 if waits else None))
            if self._wake in ready:
                return False
            for direction in self._directions:
                direction.step()
                if direction.verdict is not None:
                    return direction.verdict
        return True


class _Direction:
    """One direction of a connection and its faults. verdict: None, or how the connection ends now (True: properly)."""

    def __init__(self, passage: Passage, name: str, source: socket.socket, sink: socket.socket, seed: int) -> None:
        faults, up = passage.faults, name == "up"
        self.verdict: bool | None = None
        self.ended = False
        self._passage, self._name = passage, name
        self._source, self._sink = source, sink
        self._random = random.Random(f"{seed}/{passage.number}/{name}")
        self._cut = faults.cut_up if up else faults.cut_down
        self._close = faults.close_up if up else faults.close_down
        self._stall = faults.stall_up if up else faults.stall_down
        self._flip = faults.flip_up if up else faults.flip_down
        self._slice, self._rate, self._delay = faults.slice_max, faults.rate, faults.delay
        self._buffer = b""
        self._source_ended = False
        self._not_before = 0.0  # throttled or delayed: monotonic time of the next piece

    @property
    def _done(self) -> int:
        done: int = getattr(self._passage, self._name)
        return done

    @property
    def _stalled(self) -> bool:
        return self._stall is not None and self._done >= self._stall

    def want(self, wanted: dict[int, int]) -> None:
        """Add the poll events that this direction waits for."""
        if self.ended or self._stalled:
            return
        if self._buffer:
            if self.delay() is None:
                wanted[self._sink.fileno()] |= select.POLLOUT
        elif not self._source_ended:
            wanted[self._source.fileno()] |= select.POLLIN

    def delay(self) -> float | None:
        """Seconds until a throttled or delayed direction may go on; None when it may now."""
        left = self._not_before - time.monotonic()
        return left if self._buffer and left > 0 else None

    def step(self) -> None:
        """Do what can be done without waiting."""
        if self.ended or self._stalled:
            return
        if self._at(self._cut):
            self.verdict = False
            return
        if self._at(self._close):
            self.verdict = True
            return
        if not self._buffer and not self._source_ended:
            self._fill()
        if self._buffer and self.delay() is None:
            self._drain()
        elif self._source_ended and not self._buffer:
            self._sink.shutdown(socket.SHUT_WR)  # the other direction may go on
            self.ended = True

    def _at(self, position: int | None) -> bool:
        return position is not None and self._done >= position

    def _fill(self) -> None:
        try:
            self._buffer = self._source.recv(RECEIVE_BYTES)
            self._source_ended = not self._buffer
            self._not_before = max(self._not_before, time.monotonic() + self._delay)
        except BlockingIOError:
            pass  # nothing there yet

    def _drain(self) -> None:
        size = min(len(self._buffer), self._random.randint(1, self._slice) if self._slice else len(self._buffer))
        size = min([size, *(end - self._done for end in (self._cut, self._close, self._stall) if end is not None)])
        piece = self._buffer[:size]
        if self._flip is not None and self._done <= self._flip < self._done + size:
            place = self._flip - self._done
            piece = piece[:place] + bytes((piece[place] ^ 1 << self._random.randrange(8),)) + piece[place + 1 :]
        try:
            count = self._sink.send(piece)
        except BlockingIOError:
            return
        self._buffer = self._buffer[count:]
        setattr(self._passage, self._name, self._done + count)
        if self._rate:
            self._not_before = time.monotonic() + count / self._rate
        if self._at(self._cut) or self._at(self._close):
            self.verdict = self._at(self._close)


def _reset(one: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    one.close()
