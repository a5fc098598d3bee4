"""The service manager's protocol, against a socket of our own."""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import ServeError
from netdump.server.notify import Notifier, inherited_sockets

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("listening")
    notifier.stopping()
    assert notifier.watchdog_s is None
    assert inherited_sockets({}) == {}


@pytest.mark.parametrize("abstract", [False, True])
def test_messages(tmp_path: Path, abstract: bool) -> None:
    name = f"netdump-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name})
        notifier.ready("listening")
        notifier.alive()
        notifier.status("thinking")
        notifier.stopping()
        assert [manager.recv(100) for _ in range(4)] == [
            b"READY=1\nSTATUS=listening", b"WATCHDOG=1", b"STATUS=thinking", b"STOPPING=1",
        ]  # fmt: skip


def test_a_sentence_stays_one_line_and_can_be_sent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("/srv/\udcff is full")  # as Python reads a name that is not UTF-8
        notifier.status("KeyError: 'x\nMAINPID=1'")
        assert manager.recv(100) == b"READY=1\nSTATUS=/srv/\\udcff is full"
        assert manager.recv(100) == b"STATUS=KeyError: 'x MAINPID=1'"


def test_a_manager_that_went_away_is_not_missed(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("x")
    Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).ready("x")


def test_without_a_file_descriptor_nothing_is_said_and_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", no_socket)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1"}, 0.01),
    ],
)
def test_watchdog(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds


CHILD = """
import json, os, sys
from netdump.server.notify import inherited_sockets
environment = dict(os.environ, LISTEN_PID=str(os.getpid()))
sockets = inherited_sockets(environment)
print(json.dumps({role: sock.getsockname()[1] for role, sock in sockets.items()}))
print(sorted(set(environment) & {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}))
"""


def child(names: str, count: int) -> subprocess.CompletedProcess[str]:
    """Start a process with two listening sockets at fd 3 and 4, as systemd does."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        spare = [os.dup(sock.fileno()) for sock in (first, second)]
        script = f"exec 3<&{spare[0]} 4<&{spare[1]}; exec {shlex.quote(sys.executable)} -c '{CHILD}'"
        environment = {**os.environ, "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}
        done = subprocess.run(
            ["/bin/bash", "-c", script], env=environment, pass_fds=spare, capture_output=True, text=True
        )
        for fd in spare:
            os.close(fd)
        done.stdout = done.stdout.replace(str(first.getsockname()[1]), "A").replace(str(second.getsockname()[1]), "B")
        return done


@pytest.mark.parametrize(
    ("names", "count", "expected"),
    [
        ("ingest:api", 2, {"ingest": "A", "api": "B"}),
        ("api:ingest", 2, {"ingest": "B", "api": "A"}),
        ("", 2, {"ingest": "A", "api": "B"}),
        ("netdump.socket:netdump.socket", 2, {"ingest": "A", "api": "B"}),
        ("ingest", 1, {"ingest": "A"}),
    ],
)
def test_sockets_are_taken_over(names: str, count: int, expected: dict[str, str]) -> None:
    done = child(names, count)
    assert done.returncode == 0, done.stderr
    ports, left = done.stdout.split("}")
    assert json.loads(ports.replace("A", '"A"').replace("B", '"B"') + "}") == expected
    assert left.strip() == "[]"


@pytest.mark.parametrize(("names", "count"), [("ingest:ingest", 2), ("ingest:other", 2), ("", 17)])
def test_sockets_that_are_not_wanted(names: str, count: int) -> None:
    done = child(names, count)
    assert "ServeError" in done.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == {}
    assert inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == {}
    with pytest.raises(ServeError):
        inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "99"})
