"""Two cores joined by a pipe: a connection without TLS, socket or clock.

Owns the bytes on their way and the time. Nothing is lost here; see lossy.py for a pipe where things are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.wire import Connection, Role

if TYPE_CHECKING:
    from netdump.errors import ProtocolError
    from netdump.wire import Message


class Pipe:
    """A client core and a collector core. now: seconds; set it to let time pass.

    What a core makes of what arrives, or of the time, comes through as it is: RemoteProtocolError included.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.client = Connection(Role.CLIENT, now)
        self.collector = Connection(Role.COLLECTOR, now)
        self._on_the_way: dict[Role, bytearray] = {role: bytearray() for role in Role}  # by who is to receive them

    def end(self, role: Role) -> Connection:
        """The core at that end."""
        return self.client if role is Role.CLIENT else self.collector

    def on_the_way(self, receiver: Role) -> bytes:
        """What that end has not received yet."""
        return bytes(self._on_the_way[receiver])

    def send(self, sender: Role, message: Message) -> None:
        """Let that end send a message. Raises LocalProtocolError."""
        self.post(sender, self.end(sender).send(message, self.now))

    def fail(self, sender: Role, error: ProtocolError) -> None:
        """Let that end fail the connection."""
        self.post(sender, self.end(sender).fail(error, self.now))

    def post(self, sender: Role, data: bytes) -> None:
        """Put bytes on their way that no core has made."""
        self._on_the_way[sender.peer] += data

    def take(self, receiver: Role, size: int | None = None) -> list[Message]:
        """Let that end receive what is on the way to it, or the first size bytes: the messages that come of it.

        Raises RemoteProtocolError; the messages before it are lost, as nobody could have acted on them in time.
        """
        waiting = self._on_the_way[receiver]
        data = bytes(waiting[:size])
        del waiting[: len(data)]
        end = self.end(receiver)
        end.receive_data(data, self.now)
        messages = []
        while (message := end.next_event()) is not None:
            messages.append(message)
        return messages

    def look(self, role: Role) -> None:
        """Let that end look at the clock; KEEPALIVE goes on its way. Raises RemoteProtocolError (idle-timeout)."""
        self.post(role, self.end(role).on_time(self.now))
