from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from netdump.wire import (
    CREDIT_MIN,
    FRAME_MAX,
    TRANSITIONS,
    Ack,
    Chunk,
    Connection,
    Decline,
    Defer,
    Error,
    ErrorCode,
    Keepalive,
    Message,
    MessageType,
    Resume,
    Role,
    State,
    pack,
)
from tests.wire.examples import (
    EXAMPLES,
    FINISH,
    FIRST,
    HEADLINE,
    HELLO,
    RECEIPT,
    RESUME,
    SECOND,
    SIZE,
    chunk,
    messages,
    reached,
    sender_of,
    zeros,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PROPERTY = settings(derandomize=True, deadline=None, max_examples=300)
OPEN = [state for state in State if state is not State.CLOSED]


def events(end: Connection, pieces: Iterable[bytes], now: float = 0.0) -> tuple[list[Message], str]:
    """What comes of these bytes: messages, and the reason of the failure that ends them or nothing."""
    made: list[Message] = []
    try:
        for piece in pieces:
            end.receive_data(piece, now)
            while (event := end.next_event()) is not None:
                made.append(event)
    except RemoteProtocolError as error:
        return made, error.reason
    return made, ""


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# A whole connection


def test_a_dump() -> None:
    ends = {role: Connection(role, 0.0) for role in Role}
    script: list[tuple[Message, State]] = [
        (HELLO, State.OPENED),
        (RESUME, State.HEADLINE),
        (HEADLINE, State.STREAMING),
        (FIRST, State.STREAMING),
        (Ack(500), State.STREAMING),
        (SECOND, State.STREAMING),
        (FINISH, State.FINISHING),
        (Ack(SIZE), State.FINISHING),
        (RECEIPT, State.CLOSED),
    ]
    for message, state in script:
        sender = sender_of(message)
        made, failure = events(ends[sender.peer], bytewise(ends[sender].send(message, 0.0)))
        assert not failure
        assert [pack(one) for one in made] == [pack(message)]
        assert {end.state for end in ends.values()} == {state}
        assert {end.sent_offset for end in ends.values()} <= {0, 500, SIZE}
    for end in ends.values():
        assert end.hello == HELLO
        assert end.resume == RESUME
        assert (end.sent_offset, end.acked_offset, end.chunks, end.unacked_cost) == (SIZE, SIZE, 2, 0)
        assert not end.cut


def test_before_resume_everything_is_nothing() -> None:
    for role in Role:
        end = Connection(role, 0.0)
        assert end.role is role
        assert (end.hello, end.resume, end.credit, end.unacked_cost) == (None, None, 0, 0)
        assert (end.sent_offset, end.acked_offset, end.chunks, end.may_send(0)) == (0, 0, 0, False)


def test_what_is_known_while_streaming() -> None:
    ends = reached(State.STREAMING)
    client, collector = ends[Role.CLIENT], ends[Role.COLLECTOR]
    collector.receive_data(client.send(FIRST, 0.0), 0.0)
    got = collector.next_event()
    assert isinstance(got, Chunk)
    assert got.frame == pack(FIRST)
    for end in ends.values():
        assert (end.credit, end.unacked_cost, end.sent_offset, end.acked_offset) == (CREDIT_MIN, 4596, 500, 0)
    assert client.may_send(CREDIT_MIN - 4596 - 4096)
    assert not client.may_send(CREDIT_MIN - 4596 - 4095)
    client.receive_data(collector.send(Ack(500, 2 * CREDIT_MIN), 0.0), 0.0)
    assert client.next_event() == Ack(500, 2 * CREDIT_MIN)
    for end in ends.values():
        assert (end.credit, end.unacked_cost, end.acked_offset) == (2 * CREDIT_MIN, 0, 500)


def test_may_send_only_while_streaming() -> None:
    assert not reached(State.HEADLINE)[Role.CLIENT].may_send(0)
    assert not reached(State.FINISHING)[Role.CLIENT].may_send(0)


# The table


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("sender", Role)
@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_the_table_binds_both_roles(state: State, sender: Role, message: Message) -> None:
    """What has no row can neither be sent nor received; nothing but a row changes the state."""
    number = MessageType[type(message).__name__.upper()]
    rows = [row for row in TRANSITIONS if (row.state, row.sender, row.message) == (state, sender, number)]
    ends = reached(state)
    made, failure = events(ends[sender.peer], [pack(message)])
    if state is State.CLOSED:
        assert (made, failure) == ([], "")
    elif not rows:
        assert (made, failure) == ([], "unexpected-message")
        assert ends[sender.peer].state is state
    else:
        assert failure in {"", "bad-order", "bad-field", "bad-ack"}
        assert ends[sender.peer].state in {row.following for row in rows} | {state}
    try:
        frame = ends[sender].send(message, 0.0)
    except LocalProtocolError as error:
        assert error.reason == (failure or "unexpected-message")  # noqa: PT017
        assert ends[sender].state is state
    else:
        assert frame == pack(message)
        assert not failure
        assert ends[sender].state is ends[sender.peer].state


# Bytes


@PROPERTY
@given(st.sampled_from(State), st.sampled_from(Role), st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_messages_or_a_breach(state: State, role: Role, pieces: list[bytes]) -> None:
    end = reached(state)[role]
    _, failure = events(end, pieces)
    if failure:
        with pytest.raises(RemoteProtocolError) as again:
            end.next_event()
        assert again.value.reason == failure
        with pytest.raises(LocalProtocolError):
            end.send(Keepalive(), 0.0)
        assert end.next_timer() is None
        assert end.on_time(1e9) == b""
        end.fail(again.value, 0.0)
        assert end.state is State.CLOSED
        end.receive_data(b"more", 0.0)


frames = st.one_of(
    st.sampled_from(EXAMPLES).map(pack),
    st.sampled_from([bytes.fromhex("7f0000000000000568656c6c6f"), bytes.fromhex("ff00000000000000")]),
    st.binary(max_size=12),
)


@PROPERTY
@given(st.sampled_from(OPEN), st.sampled_from(Role), st.lists(frames, max_size=5), st.sets(st.integers(1, 999)))
def test_slices_make_no_difference(state: State, role: Role, parts: list[bytes], cuts: set[int]) -> None:
    data = b"".join(parts)
    whole = events(reached(state)[role], [data])
    assert events(reached(state)[role], bytewise(data)) == whole
    ends = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    assert events(reached(state)[role], [data[a:b] for a, b in itertools.pairwise(ends)]) == whole


def test_a_failure_comes_after_what_is_before_it() -> None:
    end = reached(State.STREAMING)[Role.COLLECTOR]
    made, failure = events(end, [pack(FIRST) + pack(Keepalive()) + b"\xff" * 20 + pack(SECOND)])
    assert [type(one) for one in made] == [Chunk, Keepalive]
    assert failure == "unknown-critical"


def test_a_header_is_judged_before_its_payload_has_come() -> None:
    """[W-13], [W-20]: nothing is kept for a frame that will be refused."""
    end = Connection(Role.COLLECTOR, 0.0)
    assert events(end, [bytes.fromhex("8006 0000 00111000")]) == ([], "unexpected-message")
    end = Connection(Role.COLLECTOR, 0.0)
    assert events(end, [bytes.fromhex("8001 0000 00010001")]) == ([], "too-large")


def test_the_buffer_is_bounded() -> None:
    """Whoever feeds without taking is told, before memory runs out."""
    end = reached(State.STREAMING)[Role.COLLECTOR]
    end.receive_data(bytes(FRAME_MAX), 0.0)
    with pytest.raises(LocalProtocolError):
        end.receive_data(b"\0", 0.0)


def test_the_caller_keeps_its_buffer() -> None:
    end = Connection(Role.COLLECTOR, 0.0)
    buffer = bytearray(pack(HELLO))
    end.receive_data(memoryview(buffer)[:10], 0.0)
    end.receive_data(memoryview(buffer)[10:], 0.0)
    buffer[:] = bytes(len(buffer))
    buffer += b"it may even grow"
    assert end.next_event() == HELLO


def test_bytes_that_are_put_into_place_are_as_good_as_fed_ones() -> None:
    """Whatever the pieces, the same messages come out, and a long frame is put together where it is kept."""
    frames = pack(FIRST) + pack(Keepalive()) + pack(SECOND)
    for most in (1, 7, 8, 100, 5000, 1 << 20):
        taken: list[int] = []

        def take(size: int, taken: list[int] = taken) -> memoryview:
            taken.append(size)
            return memoryview(bytearray(b"\xff" * size))

        end = reached(State.STREAMING, take_buffer=take)[Role.COLLECTOR]
        taken.clear()
        left, found = memoryview(frames), []
        while left:
            room = end.receive_room()
            count = min(len(room), len(left), most)
            room[:count] = left[:count]
            end.receive_filled(count, 0.0)
            left = left[count:]
            while (message := end.next_event()) is not None:
                found.append(message)
        assert [type(message) for message in found] == [Chunk, Keepalive, Chunk]
        assert [bytes(message.frame) for message in found if isinstance(message, Chunk)] == [pack(FIRST), pack(SECOND)]
        assert most > 100 or len(pack(FIRST)) in taken


def test_fed_and_placed_bytes_may_alternate() -> None:
    end = reached(State.STREAMING)[Role.COLLECTOR]
    frames = pack(FIRST) + pack(SECOND)
    end.receive_data(frames[:20], 0.0)
    assert end.next_event() is None
    room = end.receive_room()
    room[:10] = frames[20:30]
    end.receive_filled(10, 0.0)
    end.receive_data(frames[30:], 0.0)
    both = [end.next_event(), end.next_event()]
    assert [bytes(chunk.frame) for chunk in both if isinstance(chunk, Chunk)] == [pack(FIRST), pack(SECOND)]


def test_there_is_room_behind_a_frame_that_was_not_taken_yet() -> None:
    end, frame = reached(State.STREAMING)[Role.COLLECTOR], pack(FIRST)
    end.receive_data(frame[:20], 0.0)
    assert end.next_event() is None
    for data in (frame[20:], pack(Keepalive())):
        end.receive_room()[: len(data)] = data
        end.receive_filled(len(data), 0.0)
    assert isinstance(end.next_event(), Chunk)
    assert end.next_event() == Keepalive()


def test_where_there_is_no_memory_for_a_frame_it_is_asked_for_again() -> None:
    asked: list[int] = []
    free: list[memoryview] = []

    def take(size: int) -> memoryview | None:
        asked.append(size)
        return free.pop() if free else None

    end, frame = reached(State.STREAMING, take_buffer=take)[Role.COLLECTOR], pack(FIRST)
    end.receive_data(frame[:20], 0.0)
    assert end.next_event() is None
    end.receive_data(frame[20:30], 0.0)  # it does no harm
    assert end.next_event() is None
    free.append(memoryview(bytearray(len(frame))))
    assert end.next_event() is None
    room = end.receive_room()
    assert len(room) == len(frame) - 30
    room[:] = frame[30:]
    end.receive_filled(len(room), 0.0)
    message = end.next_event()
    assert isinstance(message, Chunk)
    assert bytes(message.frame) == frame
    assert asked == [len(frame)] * 3


@pytest.mark.parametrize("end_it", ["fail", "send"])
def test_the_memory_of_a_frame_is_free_as_soon_as_the_last_word_is_said(end_it: str) -> None:
    frames: list[weakref.ref[memoryview]] = []

    def take(size: int) -> memoryview:
        frame = memoryview(bytearray(size))
        frames.append(weakref.ref(frame))
        return frame

    end = reached(State.STREAMING, take_buffer=take)[Role.COLLECTOR]
    end.receive_data(pack(FIRST)[:50], 0.0)
    assert end.next_event() is None
    assert frames[-1]() is not None
    if end_it == "fail":
        end.fail(RemoteProtocolError("bad-frame", "x"), 0.0)
    else:
        end.send(Defer(1), 0.0)
    assert frames[-1]() is None


def test_a_failed_connection_keeps_nothing_and_takes_nothing() -> None:
    end = reached(State.STREAMING)[Role.COLLECTOR]
    end.receive_data(pack(FIRST)[:50], 0.0)
    assert end.next_event() is None
    end.fail(RemoteProtocolError("bad-frame", "x"), 0.0)
    assert end.next_event() is None
    room = end.receive_room()
    room[:1] = b"x"
    end.receive_filled(1, 0.0)
    assert end.next_event() is None


@pytest.mark.parametrize("state", [State.CLOSED, State.STREAMING])
def test_what_comes_after_the_end_takes_no_memory(state: State) -> None:
    end = reached(state)[Role.COLLECTOR]
    assert (end.state is State.CLOSED) != (events(end, [b"\xff" * 8])[1] == "unknown-critical")
    for _ in range(3):  # the second one would be refused if the first one were waiting
        end.receive_data(bytes(FRAME_MAX), 0.0)


def test_chunks_stay_as_they_came() -> None:
    end = reached(State.STREAMING)[Role.COLLECTOR]
    end.receive_data(pack(FIRST) + pack(SECOND), 0.0)
    first = end.next_event()
    second = end.next_event()
    assert isinstance(first, Chunk)
    assert isinstance(second, Chunk)
    assert bytes(first.data) == FIRST.data
    assert bytes(second.data) == SECOND.data


# Sending


@PROPERTY
@given(st.sampled_from(State), st.sampled_from(Role), messages)
def test_any_message_is_sent_and_accepted_or_refused(state: State, role: Role, message: Message) -> None:
    """Nothing that one core sends is refused by the other, and a refusal changes nothing."""
    ends = reached(state)
    before = seen(ends[role])
    try:
        frame = ends[role].send(message, 1.0)
    except LocalProtocolError:
        assert seen(ends[role]) == before
        return
    made, failure = events(ends[role.peer], [frame])
    assert not failure
    assert [pack(one) for one in made] == [frame]
    assert seen(ends[role.peer]) == seen(ends[role])


def seen(end: Connection) -> tuple[object, ...]:
    """Everything that both ends must agree on."""
    return (
        end.state,
        end.hello,
        end.resume,
        end.credit,
        end.unacked_cost,
        end.sent_offset,
        end.acked_offset,
        end.chunks,
        end.may_send(1 << 20),
    )


def test_the_client_may_not_exceed_its_credit() -> None:
    client = reached(State.STREAMING)[Role.CLIENT]
    client.send(FIRST, 0.0)
    with pytest.raises(LocalProtocolError) as caught:
        client.send(chunk(400, 100), 0.0)
    assert caught.value.reason == "bad-order"
    assert client.sent_offset == 500


def test_lowered_credit_binds_the_client() -> None:
    """[W-57]"""
    hello = HELLO._replace(image_bytes=1 << 40)
    ends = {role: Connection(role, 0.0) for role in Role}
    resume = RESUME._replace(headline=True, credit=2 * CREDIT_MIN)
    ends[Role.COLLECTOR].receive_data(ends[Role.CLIENT].send(hello, 0.0), 0.0)
    ends[Role.COLLECTOR].next_event()
    ends[Role.CLIENT].receive_data(ends[Role.COLLECTOR].send(resume, 0.0), 0.0)
    ends[Role.CLIENT].next_event()
    sent = [ends[Role.CLIENT].send(zeros(at * 4096, 4096), 0.0) for at in range(600)]
    ends[Role.CLIENT].receive_data(ends[Role.COLLECTOR].send(Ack(0, CREDIT_MIN), 0.0), 0.0)
    ends[Role.CLIENT].next_event()
    assert not ends[Role.CLIENT].may_send(0)
    with pytest.raises(LocalProtocolError) as caught:
        ends[Role.CLIENT].send(zeros(600 * 4096, 4096), 0.0)
    assert caught.value.reason == "credit-exceeded"
    made, failure = events(ends[Role.COLLECTOR], sent)
    assert len(made) == 600
    assert not failure


@pytest.mark.parametrize("answer", [Defer(1), Decline(99), RECEIPT])
def test_answers_that_close(answer: Message) -> None:
    ends = reached(State.OPENED)
    ends[Role.CLIENT].receive_data(ends[Role.COLLECTOR].send(answer, 0.0) + b"junk", 0.0)
    assert ends[Role.CLIENT].next_event() == answer
    assert ends[Role.CLIENT].next_event() is None
    for end in ends.values():
        assert end.state is State.CLOSED
        assert end.next_timer() is None
        with pytest.raises(LocalProtocolError):
            end.send(Error(ErrorCode.INTERNAL), 0.0)


# Failing


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteProtocolError("bad-digest", "chunk 7"), ErrorCode.BAD_DIGEST),
        (RemoteProtocolError("of tomorrow", "x"), ErrorCode.INTERNAL),
        (LocalProtocolError("bad-ack", "our own"), ErrorCode.INTERNAL),
        (RemoteProtocolError("storage", "a\nb" * 1000), ErrorCode.STORAGE),
    ],
)
def test_fail(state: State, error: ProtocolError, code: ErrorCode) -> None:
    for role in Role:
        ends = reached(state)
        made, failure = events(ends[role.peer], [ends[role].fail(error, 0.0)])
        assert not failure
        assert isinstance(made[0], Error)
        assert made[0].code is code
        assert {end.state for end in ends.values()} == {State.CLOSED}
        assert ends[role.peer].fail(error, 0.0) == b""


@pytest.mark.parametrize("broken", ["800b 0000 00000000", "800b 0001 00000000", "000b 0000 ffffffff"])
def test_a_broken_error_is_not_answered(broken: str) -> None:
    """[W-70]"""
    end = reached(State.STREAMING)[Role.CLIENT]
    _, failure = events(end, [bytes.fromhex(broken)])
    assert failure
    assert end.fail(RemoteProtocolError(failure, ""), 0.0) == b""
    assert end.state is State.CLOSED


def test_after_a_failure_error_may_be_sent() -> None:
    end = reached(State.STREAMING)[Role.CLIENT]
    events(end, [b"\xff" * 8])
    assert end.send(Error(ErrorCode.UNKNOWN_CRITICAL), 0.0) == pack(Error(ErrorCode.UNKNOWN_CRITICAL))
    assert end.state is State.CLOSED


# The end of the stream


@pytest.mark.parametrize("state", OPEN)
def test_a_cut_is_no_breach(state: State) -> None:
    """[W-76]"""
    for role in Role:
        end = reached(state)[role]
        end.receive_data(pack(Keepalive())[:5], 0.0)
        assert not end.cut
        end.receive_eof()
        assert end.next_event() is None
        assert end.cut


def test_what_came_before_the_end_counts() -> None:
    end = reached(State.FINISHING)[Role.CLIENT]
    end.receive_data(pack(Ack(SIZE)) + pack(RECEIPT), 0.0)
    end.receive_eof()
    assert [end.next_event(), end.next_event(), end.next_event()] == [Ack(SIZE), RECEIPT, None]
    assert not end.cut


def test_resume_must_lie_within_the_image() -> None:
    ends = reached(State.OPENED)
    beyond = Resume(SIZE + 1, bytes(32), 1, True, CREDIT_MIN, 5, 15)
    assert events(ends[Role.CLIENT], [pack(beyond)]) == ([], "bad-field")
    with pytest.raises(LocalProtocolError):
        ends[Role.COLLECTOR].send(beyond, 0.0)
    assert ends[Role.COLLECTOR].resume is None


# Time


def test_opening_time() -> None:
    """[W-75]"""
    for role in Role:
        end = Connection(role, 50.0)
        assert end.next_timer() == 60.0
        end.receive_data(b"\x80", 59.0)
        assert end.next_timer() == 60.0
        assert end.on_time(59.9) == b""
        with pytest.raises(RemoteProtocolError) as caught:
            end.on_time(60.0)
        assert caught.value.reason == "idle-timeout"
    for end in reached(State.OPENED, 50.0).values():
        assert end.next_timer() == 60.0


def test_the_pieces_of_a_long_frame_are_no_silence() -> None:  # [W-61]
    end = reached(State.STREAMING, 50.0)[Role.COLLECTOR]
    end.receive_data(pack(FIRST)[:20], 50.0)
    assert end.next_event() is None
    end.receive_room()[:1] = pack(FIRST)[20:21]
    end.receive_filled(1, 64.0)
    assert end.on_time(78.9) == pack(Keepalive())
    with pytest.raises(RemoteProtocolError, match="silent"):
        end.on_time(79.0)


def test_silence_while_nobody_listens_does_not_count() -> None:
    collector = Connection(Role.COLLECTOR, 0.0)
    collector.pardon(9.0)
    assert collector.next_timer() == 10.0, "before RESUME nothing is pardoned"  # [W-75]
    collector = reached(State.STREAMING, 50.0)[Role.COLLECTOR]
    collector.pardon(64.0)
    assert collector.on_time(78.9) == pack(Keepalive())
    collector.pardon(78.9)
    with pytest.raises(RemoteProtocolError, match="silent"):
        collector.on_time(93.9)


def test_keepalive_and_idle() -> None:
    """[W-60], [W-61]"""
    for role in Role:
        ends = reached(State.STREAMING, 50.0)
        end, peer = ends[role], ends[role.peer]
        assert end.next_timer() == 55.0
        assert end.on_time(54.9) == b""
        assert events(peer, [end.on_time(55.0)], 55.0) == ([Keepalive()], "")
        assert end.next_timer() == 60.0
        assert peer.next_timer() == 55.0
        end.receive_data(b"\x80", 64.0)
        assert end.on_time(64.0) == pack(Keepalive())
        assert end.on_time(75.0) == pack(Keepalive())
        assert end.next_timer() == 79.0
        with pytest.raises(RemoteProtocolError) as caught:
            end.on_time(79.0)
        assert caught.value.reason == "idle-timeout"
        assert pack(Error(ErrorCode.IDLE_TIMEOUT, str(caught.value))) == end.fail(caught.value, 79.0)


def test_what_is_sent_puts_keepalive_off() -> None:
    client = reached(State.STREAMING)[Role.CLIENT]
    client.send(FIRST, 3.0)
    assert client.next_timer() == 8.0


def test_an_empty_read_is_nothing() -> None:
    client = reached(State.STREAMING)[Role.CLIENT]
    client.receive_data(b"", 10.0)
    client.send(FIRST, 14.0)
    assert client.next_timer() == 15.0
