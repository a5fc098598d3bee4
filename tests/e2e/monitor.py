"""The control socket of a QEMU: commands and events (QMP, QEMU docs/interop/qmp-spec.rst).

Owns one connection. What a guest cannot do to itself is done here: pulling its cable, pressing its keys, keeping its
state, and hearing why it ended.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CONNECT_TIMEOUT = 60.0
ANSWER_TIMEOUT = 120.0


class Monitor:
    """events: names and data of what QEMU told on the way. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = connect(path)
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._lines = self._socket.makefile("rb")
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one command and return what it returns."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = self._read()
            assert answer is not None, f"QEMU ended before it answered {command}"
            assert "error" not in answer, f"{command}: {answer['error']}"
            if "return" in answer:
                return answer["return"]

    def drain(self) -> None:
        """Read events until QEMU has ended."""
        while self._read() is not None:
            pass

    def _read(self) -> dict[str, Any] | None:
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message


def connect(path: Path) -> socket.socket:
    """A connection to a socket that QEMU is about to open."""
    limit = time.monotonic() + CONNECT_TIMEOUT
    while True:
        attempt = socket.socket(socket.AF_UNIX)
        try:
            attempt.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            attempt.close()
            assert time.monotonic() < limit, f"nobody listens at {path}"
            time.sleep(0.05)
        else:
            return attempt
