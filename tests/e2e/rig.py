"""A collector and its peers as real processes, driven through the command line as a user would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from netdump.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READY_TIMEOUT = 60
COMMAND_TIMEOUT = 120
POLL_PERIOD = 0.005


def netdump(*arguments: str | Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one netdump command to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "netdump", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        env={**os.environ, **environment},
    )
    if check:
        assert done.returncode == 0, (
            f"netdump {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def start(*arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
    """Start one netdump command."""
    return subprocess.Popen([sys.executable, "-m", "netdump", *map(str, arguments)], text=True, **streams)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = COMMAND_TIMEOUT) -> None:
    """Return as soon as the condition holds; fail if it does not within timeout seconds."""
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, f"waited {timeout:g} s in vain for {what}"
        time.sleep(POLL_PERIOD)


class Collector:
    """`netdump serve` on a folder, on ports that the kernel chooses at the first start and that it keeps afterwards.

    like: a stopped one whose certificates it takes over, as an operator does who runs two for the same hosts.
    """

    def __init__(self, folder: Path, names: str = "localhost,127.0.0.1", *, like: Collector | None = None) -> None:
        self.folder = folder
        self.ingest = "127.0.0.1:0"
        self.api = "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None
        self._log = folder.parent / f"{folder.name}.log"
        if like:
            shutil.copytree(like.folder, folder, ignore=shutil.ignore_patterns("serve.*"))
        else:
            netdump("init", folder, "--name", names)

    def start(self, inside: Sequence[str] = ()) -> Self:
        """inside: words before the command, such as those that run it in a namespace."""
        words = ["serve", str(self.folder), "--ingest", self.ingest, "--api", self.api]
        with self._log.open("a") as log:
            command = [*inside, sys.executable, "-m", "netdump", *words]
            self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()  # the one line that serve prints when it listens
        assert ready, f"the collector did not start:\n{self._log.read_text()}"
        facts = json.loads((self.folder / "serve.json").read_text())
        self.ingest, self.api = facts["ingest"], facts["api"]
        return self

    def kill(self) -> None:
        """SIGKILL: what a power cut leaves of the process."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        status = self.process.wait(READY_TIMEOUT)
        self.process.stdout.close()
        return status

    def token(self, role: str, name: str) -> str:
        """With which a host or analyst can be enrolled once."""
        made: str = json.loads(netdump("token", self.folder, f"--{role}", name, "--json").stdout)["token"]
        return made

    def enroll(self, role: str, name: str, *collectors: str) -> Path:
        """A bundle for one host or analyst, made with a token through the API."""
        token = self.token(role, name)
        out = self.folder.parent / f"{name}.toml"
        options = [part for address in collectors for part in ("--collector", address)]
        netdump("enroll", f"https://{self.api}", "--token", token, "--out", out, *options)
        return out

    def peak_memory(self) -> int:
        """The most memory that the process has had, bytes."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel does not tell")

    def log_lines(self) -> list[str]:
        """What the collector has logged, over all its starts."""
        return [line for line in self._log.read_text().splitlines() if line.startswith("{")]

    def held_bytes(self) -> int:
        """What it has on disk of the pages of all dumps, compressed."""
        return sum(segment.stat().st_size for segment in self.folder.glob("dumps/*/segments/*.seg"))

    def dumps(self) -> list[dict[str, Any]]:
        """What it knows. While it writes on a busy machine, its index may be locked for longer than a command waits."""
        limit = time.monotonic() + COMMAND_TIMEOUT
        while True:
            done = netdump("list", "--root", self.folder, "--json", check=False)
            if done.returncode != BusyError.exit_status or time.monotonic() > limit:
                break
        assert done.returncode == 0, done.stderr
        dumps: list[dict[str, Any]] = json.loads(done.stdout)["dumps"]
        return dumps
