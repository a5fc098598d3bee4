"""The law: which message may follow which, from whom (wire.md 5).

Two rules. Everything that decides a change of state stands in this file. And this file does not know which role it
plays: both sides obey the one table, each with its own messages and those of the other. tests/protocol/test_prose.py
compares the table with the one in wire.md.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from netdump.namedtuple import NamedTuple
from netdump.wire._messages import TYPE_OF, Resume
from netdump.wire._registry import MessageType

if TYPE_CHECKING:
    from netdump.wire._messages import Message


class Role(Enum):
    """Who a peer is."""

    CLIENT = "client"
    COLLECTOR = "collector"

    @property
    def peer(self) -> Role:
        """The other one."""
        return Role.COLLECTOR if self is Role.CLIENT else Role.CLIENT


class State(Enum):
    """How far a connection is; always the same at both ends, but for what is on the way."""

    OPENING = "OPENING"
    OPENED = "OPENED"
    HEADLINE = "HEADLINE"
    STREAMING = "STREAMING"
    FINISHING = "FINISHING"
    CLOSED = "CLOSED"


class Transition(NamedTuple):
    """One row. headline: the value of RESUME's field that the row is for; None in rows of other messages."""

    state: State
    sender: Role
    message: MessageType
    following: State
    headline: bool | None = None


_CLIENT: Final = Role.CLIENT
_COLLECTOR: Final = Role.COLLECTOR

TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition(State.OPENING, _CLIENT, MessageType.HELLO, State.OPENED),
    Transition(State.OPENED, _COLLECTOR, MessageType.RESUME, State.HEADLINE, headline=False),
    Transition(State.OPENED, _COLLECTOR, MessageType.RESUME, State.STREAMING, headline=True),
    Transition(State.OPENED, _COLLECTOR, MessageType.DEFER, State.CLOSED),
    Transition(State.OPENED, _COLLECTOR, MessageType.DECLINE, State.CLOSED),
    Transition(State.OPENED, _COLLECTOR, MessageType.RECEIPT, State.CLOSED),
    Transition(State.HEADLINE, _CLIENT, MessageType.HEADLINE, State.STREAMING),
    Transition(State.HEADLINE, _CLIENT, MessageType.KEEPALIVE, State.HEADLINE),
    Transition(State.HEADLINE, _COLLECTOR, MessageType.KEEPALIVE, State.HEADLINE),
    Transition(State.STREAMING, _CLIENT, MessageType.CHUNK, State.STREAMING),
    Transition(State.STREAMING, _CLIENT, MessageType.KEEPALIVE, State.STREAMING),
    Transition(State.STREAMING, _CLIENT, MessageType.FINISH, State.FINISHING),
    Transition(State.STREAMING, _COLLECTOR, MessageType.ACK, State.STREAMING),
    Transition(State.STREAMING, _COLLECTOR, MessageType.DEFER, State.CLOSED),
    Transition(State.STREAMING, _COLLECTOR, MessageType.KEEPALIVE, State.STREAMING),
    Transition(State.FINISHING, _CLIENT, MessageType.KEEPALIVE, State.FINISHING),
    Transition(State.FINISHING, _COLLECTOR, MessageType.ACK, State.FINISHING),
    Transition(State.FINISHING, _COLLECTOR, MessageType.KEEPALIVE, State.FINISHING),
    Transition(State.FINISHING, _COLLECTOR, MessageType.RECEIPT, State.CLOSED),
    *(
        Transition(state, sender, MessageType.ERROR, State.CLOSED)
        for state in State
        if state is not State.CLOSED
        for sender in Role
    ),
)

_FOLLOWING: Final = {(row.state, row.sender, row.message, row.headline): row.following for row in TRANSITIONS}
_ALLOWED: Final = frozenset((row.state, row.sender, row.message) for row in TRANSITIONS)


def allowed(state: State, sender: Role, message: MessageType) -> bool:
    """Whether a message of this type may come from this sender now; its content may still forbid it."""
    return (state, sender, message) in _ALLOWED


def following(state: State, sender: Role, message: Message) -> State | None:
    """The state after this message; None: it has no row, so it is unexpected-message."""
    headline = bool(message.headline) if isinstance(message, Resume) else None
    return _FOLLOWING.get((state, sender, TYPE_OF[type(message)], headline))
