"""One connection, at either end: the object a client or collector holds.

Owns the receive buffer and puts frames, states, stream and timers together. Must not decide anything that those decide,
nor decompress or hash what chunks carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netdump.errors import LocalProtocolError, RemoteProtocolError
from netdump.wire._chatter import Chatter
from netdump.wire._fields import printable
from netdump.wire._frames import FRAME_MAX, FrameHeader, pack_measured, unpack_header, unpack_measured
from netdump.wire._messages import TYPE_OF, Ack, Chunk, Error, Finish, Hello, Keepalive, Receipt, Resume
from netdump.wire._registry import CRITICAL_BIT, FRAME_HEADER_BYTES, ErrorCode, MessageType
from netdump.wire._states import Role, State, allowed, following
from netdump.wire._stream import Stream
from netdump.wire._timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from netdump.errors import ProtocolError
    from netdump.wire._messages import Buffer, Message

LEAD_BYTES: Final = 4096
"""As much as is received before it is known what it is."""

_CODE_OF: Final = {code.slug: code for code in ErrorCode}


def _new_buffer(size: int) -> memoryview:
    return memoryview(bytearray(size))


class Connection:
    """One end of a netdump/1 connection.

    Feed what arrives to receive_data, then take messages with next_event until it returns None; write what send,
    on_time and fail return to the peer, in that order. now: seconds of any clock that never goes back, the same for all
    calls.

    Only LocalProtocolError (this side: nothing was changed, go on) and RemoteProtocolError (the other side, or its
    silence: the connection has failed, send what fail returns and close) come out, whatever bytes go in. Spec: wire.md
    3 to 5.
    """

    __slots__ = (
        "_buffer",
        "_chatter",
        "_ended",
        "_failure",
        "_filled",
        "_finish",
        "_frame",
        "_header",
        "_hello",
        "_lead",
        "_now",
        "_receiving",
        "_resume",
        "_role",
        "_state",
        "_stream",
        "_take_buffer",
        "_timers",
    )

    def __init__(self, role: Role, now: float, take_buffer: Callable[[int], memoryview | None] | None = None) -> None:
        """take_buffer: gives memory for a frame, of that many bytes, FRAME_MAX at most.

        None: there is none now. It is asked again by each next_event; until then no more should be fed.
        """
        self._role = role
        self._take_buffer = take_buffer or _new_buffer
        self._state = State.OPENING
        self._now = now
        self._timers = Timers(now)
        self._chatter = Chatter(now)
        self._buffer = bytearray()
        self._lead = bytearray()
        self._frame: memoryview | None = None  # one that did not come in one piece, and how much of it is here
        self._filled = 0
        self._header: FrameHeader | None = None
        self._receiving = 0  # type of the frame at the front of the buffer, known or not
        self._failure: RemoteProtocolError | None = None
        self._ended = False
        self._hello: Hello | None = None
        self._resume: Resume | None = None
        self._finish: Finish | None = None
        self._stream: Stream | None = None

    # What is known

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._role

    @property
    def state(self) -> State:
        """How far the connection is."""
        return self._state

    @property
    def cut(self) -> bool:
        """Whether the stream ended before CLOSED: not a breach, the client connects again. Spec: [W-76]."""
        return self._ended and self._state is not State.CLOSED

    @property
    def hello(self) -> Hello | None:
        """HELLO, once it was sent or received."""
        return self._hello

    @property
    def resume(self) -> Resume | None:
        """RESUME, once it was sent or received."""
        return self._resume

    @property
    def credit(self) -> int:
        """Bytes of cost that may be unacknowledged; 0 before RESUME."""
        return self._stream.credit if self._stream else 0

    @property
    def unacked_cost(self) -> int:
        """Cost of the chunks sent or received on this connection and not acknowledged. Spec: [W-57]."""
        return self._stream.cost - self._stream.acked_cost if self._stream else 0

    @property
    def sent_offset(self) -> int:
        """Image offset after the last chunk sent (client) or received (collector); RESUME's before the first."""
        return self._stream.offset if self._stream else 0

    @property
    def acked_offset(self) -> int:
        """Image offset of the last ACK; RESUME's before the first."""
        return self._stream.acked_offset if self._stream else 0

    @property
    def chunks(self) -> int:
        """Chunks of the dump before sent_offset, those of earlier connections included."""
        return self._stream.chunks if self._stream else 0

    @property
    def chatter_bytes(self) -> int:
        """Bytes of the frames received that say nothing. Spec: [W-63]."""
        return self._chatter.bytes

    def may_send(self, raw_bytes: int) -> bool:
        """Whether state and credit allow the client a chunk with that many bytes of raw data now."""
        return self._stream is not None and self._state is State.STREAMING and self._stream.may_send(raw_bytes)

    # Receiving

    def receive_data(self, data: Buffer, now: float) -> None:
        """Take bytes from the peer; they are copied. Take all events before the next call: the buffer is bounded.

        Raises LocalProtocolError if more than a whole frame of any kind is waiting to be taken already.
        """
        if self._state is State.CLOSED or self._failure or not data:
            return  # [W-76]
        if len(self._buffer) >= FRAME_MAX:
            raise LocalProtocolError("internal", "bytes are fed to a connection whose events are not taken")
        self._now = now
        self._timers.received(now)
        view = memoryview(data)
        count = min(len(view), self._missing)
        if self._frame is not None and count:
            self._frame[self._filled : self._filled + count] = view[:count]
            self._filled += count
        self._buffer += view[count:]

    def receive_room(self) -> memoryview:
        """Where the peer's next bytes may be put, from its front, so that they need not be copied by receive_data.

        Never empty. Good until receive_filled, which must follow before anything else is called.
        """
        if self._frame is not None and self._missing:
            return self._frame[self._filled :]
        if not self._lead:
            self._lead = bytearray(LEAD_BYTES)
        return memoryview(self._lead)

    def receive_filled(self, count: int, now: float) -> None:
        """Take count bytes that were put into receive_room(). As receive_data otherwise."""
        if self._frame is None or not self._missing or not count:
            self.receive_data(memoryview(self._lead)[:count], now)
        else:
            self._now = now
            self._timers.received(now)
            self._filled += count

    @property
    def _missing(self) -> int:
        """Bytes of the frame that is put together."""
        return 0 if self._frame is None else len(self._frame) - self._filled

    def receive_eof(self) -> None:
        """The peer's stream has ended. What was fed before can still be taken; then look at cut."""
        self._ended = True

    def next_event(self) -> Message | None:
        """The next message of the peer; None: more data is needed, or the connection is CLOSED.

        Raises RemoteProtocolError, again at every call once the connection has failed.
        """
        if self._failure:
            raise self._failure
        try:
            return self._next_event()
        except RemoteProtocolError as error:
            self._failure = error
            self._forget()
            raise

    def _next_event(self) -> Message | None:
        while (frame := self._next_frame()) is not None:
            header, self._header = self._header, None
            if header is None or header.type is None:
                self._chatter.take(len(frame), self._now)
                continue  # [W-18]: skipped without a look at its payload
            message, raw_bytes = unpack_measured(header.type, frame)
            self._step(message, raw_bytes, self._role.peer)
            if isinstance(message, Keepalive):
                self._chatter.take(len(frame), self._now)
            return message
        return None

    def _next_frame(self) -> Buffer | None:
        """A whole frame; None: not there yet. Its header is checked as soon as it is there."""
        if self._state is State.CLOSED:
            return None
        if self._header is None:
            if len(self._buffer) < FRAME_HEADER_BYTES:
                return None
            self._header = self._check_header()
        if self._frame is None:
            size = FRAME_HEADER_BYTES + self._header.length
            if len(self._buffer) >= size:
                with memoryview(self._buffer) as view:
                    frame = bytes(view[:size])
                del self._buffer[:size]
                return frame
            frame_buffer = self._take_buffer(size)
            if frame_buffer is None:
                return None
            self._frame, self._filled = frame_buffer, len(self._buffer)
            self._frame[: self._filled] = self._buffer
            self._buffer.clear()
        if self._missing:
            return None
        whole, self._frame = self._frame, None
        return whole.toreadonly()

    def _forget(self) -> None:
        """Nothing of what was received will be looked at."""
        self._buffer.clear()
        self._frame = None

    def _check_header(self) -> FrameHeader:
        """The header at the front of the buffer: in order, and its message due. Spec: [W-20]."""
        self._receiving = int.from_bytes(self._buffer[:2], "big") & ~CRITICAL_BIT
        header = unpack_header(self._buffer[:FRAME_HEADER_BYTES])
        if header.type is not None and not allowed(self._state, self._role.peer, header.type):
            raise RemoteProtocolError(
                "unexpected-message",
                f"{header.type.name} from the {self._role.peer.value} in state {self._state.value}",
            )
        return header

    # Sending

    def send(self, message: Message, now: float) -> bytes:
        """The frame of a message, and the step that it makes.

        Raises LocalProtocolError, having changed nothing, if the protocol does not allow it now.
        """
        return b"".join(self.send_parts(message, now))

    def send_parts(self, message: Message, now: float) -> tuple[bytes, Buffer]:
        """As send, but the frame in two parts: of a chunk the second one is its data, the message's own, not copied."""
        if self._failure and not isinstance(message, Error):
            raise LocalProtocolError("internal", "the connection has failed already")
        parts, raw_bytes = pack_measured(message)
        self._now = now
        try:
            self._step(message, raw_bytes, self._role)
        except RemoteProtocolError as error:
            raise LocalProtocolError(error.reason, str(error)) from None
        self._timers.sent(now)
        return parts

    def fail(self, error: ProtocolError, now: float) -> bytes:
        """End the connection for this error: the ERROR frame for the peer, empty if none may be sent. Then CLOSED.

        The peer learns the reason of a RemoteProtocolError; what this side did wrong is internal. Spec: [W-70].
        """
        if self._state is State.CLOSED:
            return b""
        if self._failure and self._receiving == MessageType.ERROR:
            self._enter(State.CLOSED)  # what failed is an ERROR itself: it is never answered
            return b""
        code = ErrorCode.INTERNAL
        if isinstance(error, RemoteProtocolError):
            code = _CODE_OF.get(error.reason, ErrorCode.INTERNAL)
        return self.send(Error(code, printable(str(error))), now)

    # Time

    def next_timer(self) -> float | None:
        """When on_time wants to be called, unless something is sent or received before; None: never."""
        if self._state is State.CLOSED or self._failure:
            return None
        keepalive = self._timers.keepalive
        return self._timers.deadline if keepalive is None else min(keepalive, self._timers.deadline)

    def pardon(self, now: float) -> None:
        """Do not count the peer's silence until now: this end was not listening. Changes nothing before RESUME [W-75].

        Spec: [W-61] is about a peer of which nothing was received although it was read from.
        """
        self._timers.received(now)

    def on_time(self, now: float) -> bytes:
        """What the time demands: a KEEPALIVE frame to send, or nothing. Call it after what has arrived was fed.

        Raises RemoteProtocolError (idle-timeout). Spec: [W-60], [W-61], [W-75].
        """
        if self._state is State.CLOSED or self._failure:
            return b""
        if now >= self._timers.deadline:
            self._failure = RemoteProtocolError("idle-timeout", f"the {self._role.peer.value} has been silent too long")
            raise self._failure
        keepalive = self._timers.keepalive
        return b"" if keepalive is None or now < keepalive else self.send(Keepalive(), now)

    # The one step of both directions

    def _step(self, message: Message, raw_bytes: int, sender: Role) -> None:
        """Check a message against all that went before, count it, change the state. Raises RemoteProtocolError."""
        state = following(self._state, sender, message)
        if state is None:
            raise RemoteProtocolError(
                "unexpected-message",
                f"{TYPE_OF[type(message)].name} from the {sender.value} in state {self._state.value}",
            )
        match message:
            case Hello():
                self._hello = message
                self._timers.restart(self._now)
            case Resume():
                self._start(message)
            case Chunk():
                self._add(message, raw_bytes)
            case Ack():
                self._account.acknowledge(message)
            case Finish():
                self._account.check_finish(message)
                self._finish = message
            case Receipt() if self._finish and message.root != self._finish.root:
                raise RemoteProtocolError("bad-root", "the root of RECEIPT is not that of FINISH")  # [W-68]
            case _:
                pass
        self._enter(state)

    def _enter(self, state: State) -> None:
        self._state = state
        if state is State.CLOSED:
            self._forget()

    def _start(self, resume: Resume) -> None:
        """RESUME went over."""
        assert self._hello, "the table lets RESUME follow HELLO only"
        if resume.offset > self._hello.image_bytes:
            raise RemoteProtocolError("bad-field", f"RESUME at {resume.offset}, beyond the image")
        self._resume = resume
        self._stream = Stream(resume, self._hello.image_bytes)
        self._timers.run(resume, self._now)

    @property
    def _account(self) -> Stream:
        """The account of chunks, where the table says that there is one."""
        assert self._stream, "CHUNK, ACK and FINISH follow RESUME only"
        return self._stream

    def _add(self, chunk: Chunk, raw_bytes: int) -> None:
        """A chunk went over. Spec: [W-45], [W-57]."""
        stream = self._account
        stream.check_chunk(chunk)
        room = stream.may_send if self._role is Role.CLIENT else stream.may_receive
        if not room(raw_bytes):
            raise RemoteProtocolError("credit-exceeded", f"a chunk with {raw_bytes} bytes of raw data")
        stream.add(chunk, raw_bytes)
