"""Messages to try things with, and hypothesis strategies that make any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from netdump.pages import ExcludeClass, PageState, Run
from netdump.wire import (
    CREDIT_MIN,
    Ack,
    Chunk,
    CodecId,
    Connection,
    Decline,
    DeclineCode,
    Defer,
    Error,
    ErrorCode,
    Finish,
    Headline,
    Hello,
    Keepalive,
    Message,
    Receipt,
    Resume,
    Role,
    State,
    chain_start,
    pack_runs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 1000
HELLO = Hello(bytes(range(16)), SIZE, 4096, 1)
RESUME = Resume(0, chain_start(HELLO.dump_id, SIZE), 0, False, CREDIT_MIN, 5, 15)
HEADLINE = Headline(CodecId.STORED, 3, bytes(32), b"abc")
FINISH = Finish(SIZE, 2, b"r" * 32)
RECEIPT = Receipt(FINISH.root, b"{}")


def chunk(offset: int, length: int) -> Chunk:
    """A chunk of stored data. Its digest is of nothing: the core does not look."""
    data = bytes((offset + at) % 251 for at in range(length))
    return Chunk(offset, length, pack_runs([Run(PageState.DATA, length)]), bytes(32), CodecId.STORED, data)


def zeros(offset: int, length: int) -> Chunk:
    """A chunk without data."""
    return Chunk(offset, length, pack_runs([Run(PageState.ZERO, length)]), bytes(32), CodecId.STORED, b"")


FIRST, SECOND = chunk(0, 500), chunk(500, 500)

EXAMPLES: tuple[Message, ...] = (
    HELLO,
    HELLO._replace(agent="netdump/1 é", attempt=3, drill=True),
    RESUME,
    RESUME._replace(offset=500, chunks=1, headline=True),
    Defer(60),
    Defer(86400, "the disk is full"),
    Decline(DeclineCode.QUOTA),
    Decline(DeclineCode.NOT_OWNER, "another host's"),
    HEADLINE,
    FIRST,
    zeros(0, 1 << 30),
    Ack(500),
    Ack(0, CREDIT_MIN),
    Keepalive(),
    FINISH,
    RECEIPT,
    Error(ErrorCode.INTERNAL),
    Error(ErrorCode.STORAGE, "no space"),
)

# What leads a connection into each state, sender and message
STEPS: dict[State, tuple[Message, ...]] = {
    State.OPENING: (),
    State.OPENED: (HELLO,),
    State.HEADLINE: (HELLO, RESUME),
    State.STREAMING: (HELLO, RESUME._replace(headline=True)),
    State.FINISHING: (HELLO, RESUME._replace(headline=True), FIRST, SECOND, FINISH),
    State.CLOSED: (HELLO, Defer(1)),
}
FROM_COLLECTOR = (Resume, Defer, Decline, Ack, Receipt)


def sender_of(message: Message) -> Role:
    """Who sends it; of KEEPALIVE and ERROR the client."""
    return Role.COLLECTOR if isinstance(message, FROM_COLLECTOR) else Role.CLIENT


def reached(
    state: State, now: float = 0.0, take_buffer: Callable[[int], memoryview | None] | None = None
) -> dict[Role, Connection]:
    """Both ends of a connection in this state."""
    ends = {role: Connection(role, now, take_buffer) for role in Role}
    for message in STEPS[state]:
        sender = sender_of(message)
        ends[sender.peer].receive_data(ends[sender].send(message, now), now)
        assert ends[sender.peer].next_event() is not None
    assert {end.state for end in ends.values()} == {state}
    return ends


# Strategies. Numbers go a little beyond what is allowed, so that both happen.

texts = st.text(max_size=20)
digests = st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
lengths = st.integers(1, 5000)

runs = st.builds(
    Run,
    st.sampled_from(PageState),
    st.one_of(lengths, st.integers(0, 1 << 33)),
    st.sampled_from(ExcludeClass),
    st.integers(0, 10000),
)


@st.composite
def sound_runs(draw: st.DrawFn, offset: int = 1 << 20) -> list[Run]:
    """Runs that keep all rules at this image offset."""
    made: list[Run] = []
    at = offset
    for _ in range(draw(st.integers(1, 12))):
        state = draw(st.sampled_from(PageState))
        length = draw(lengths)
        exclude = draw(st.sampled_from(list(ExcludeClass)[1:])) if state is PageState.EXCLUDED else ExcludeClass.NONE
        source = draw(st.integers(0, at - length)) if state is PageState.ALIAS else 0
        same = bool(made) and (made[-1].state, made[-1].exclude) == (state, exclude)
        if same and (state is not PageState.ALIAS or source == made[-1].source + made[-1].length):
            continue
        made.append(Run(state, length, exclude, source))
        at += length
    return made


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        st.binary(min_size=15, max_size=17),
        st.integers(0, 1 << 65),
        st.sampled_from([4096, 65536, 5000]),
        st.integers(-1, 32),
        texts,
        st.integers(0, 1 << 33),
        st.booleans(),
    ),
    st.builds(
        Resume,
        st.sampled_from([0, 500, 1000, 1001]),
        digests,
        st.integers(0, 2),
        st.booleans(),
        st.integers(CREDIT_MIN - 1, CREDIT_MIN + 1),
        st.integers(0, 6),
        st.integers(2, 20),
    ),
    st.builds(Defer, st.integers(0, 86401), texts),
    st.builds(Decline, st.one_of(st.sampled_from(DeclineCode), st.integers(0, 70000)), texts),
    st.builds(Headline, st.sampled_from(CodecId), st.integers(0, 5), digests, st.binary(max_size=5)),
    st.builds(
        Chunk,
        st.sampled_from([0, 500, 1000]),
        st.integers(0, 1001),
        st.lists(runs, max_size=3).map(lambda made: b"" if any(run.length >> 32 for run in made) else _table(made)),
        digests,
        st.sampled_from(CodecId),
        st.binary(max_size=9),
    ),
    st.builds(Ack, st.sampled_from([0, 499, 500, 1000]), st.one_of(st.none(), st.integers(CREDIT_MIN - 1, CREDIT_MIN))),
    st.just(Keepalive()),
    st.builds(Finish, st.sampled_from([999, 1000]), st.integers(0, 3), digests),
    st.builds(Receipt, digests, st.binary(max_size=3)),
    st.builds(Error, st.sampled_from(ErrorCode), texts),
    st.sampled_from(EXAMPLES),
)


def _table(made: list[Run]) -> bytes:
    return pack_runs([run if run.state is PageState.ALIAS else run._replace(source=0) for run in made])
