"""What systemd and the collector tell each other: readiness, watchdog, inherited sockets.

sd_notify(3) and sd_listen_fds(3), by the standard library. Without systemd (none of its variables in the environment)
everything here does nothing.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from netdump.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

LISTEN_FDS_START = 3  # SD_LISTEN_FDS_START
LISTEN_FDS_MAX = 16


class Notifier:
    """The notification socket of the service manager, if there is one."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@name" is an abstract socket; anything else that is no path is not for us (vsock:…).
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self.watchdog_s = _watchdog(environment)

    def send(self, *lines: str) -> None:
        """Send assignments such as "READY=1". A manager that does not listen is none of the collector's business."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            # The manager went away or is not reading, or there is no file descriptor: dumps go on.
            return

    def ready(self, status: str) -> None:
        """The collector listens."""
        self.send("READY=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows from now on."""
        self.send(f"STATUS={_line(text)}")

    def stopping(self) -> None:
        """The collector is about to end."""
        self.send("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns."""
        self.send("WATCHDOG=1")


def _line(text: str) -> str:
    """One line that can be sent: a sentence may name a folder, and be what a library said."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def _watchdog(environment: MutableMapping[str, str]) -> float | None:
    """Seconds between two signs of life, half of what the manager allows; None: it does not watch this process."""
    text, own = environment.get("WATCHDOG_USEC", ""), str(os.getpid())
    if not (text.isascii() and text.isdecimal()) or environment.get("WATCHDOG_PID", own) != own:
        return None
    allowed_us = int(text[:18])
    return max(allowed_us / 2_000_000, 0.01) if allowed_us else None


def inherited_sockets(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """The listening sockets that the service manager opened, by role: "ingest" and "api".

    Roles come from LISTEN_FDNAMES (FileDescriptorName= of the .socket units); without names the first is ingest, the
    second api. The variables are removed, so that no child process takes the sockets for its own. Raises ServeError.
    """
    pid, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
        return {}
    if int(count) > LISTEN_FDS_MAX:
        raise ServeError(f"systemd passed {count} sockets; two are wanted: ingest and api")
    roles = names.split(":") if names else []
    if not set(roles) & {"ingest", "api"}:
        roles = ["ingest", "api"]
    sockets: dict[str, socket.socket] = {}
    for fd, role in zip(range(LISTEN_FDS_START, LISTEN_FDS_START + int(count)), roles, strict=False):
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        if role not in ("ingest", "api") or role in sockets or sock.type != socket.SOCK_STREAM:
            raise ServeError(
                f"systemd passed a socket named {role!r}; one stream socket each is wanted: ingest and api"
            )
        sockets[role] = sock
    return sockets
