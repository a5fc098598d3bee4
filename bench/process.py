"""Running programs: measured ones through the launcher, helpers directly, services in the background."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STOP_TIMEOUT: Final = 30
STOPS: Final = (signal.SIGTERM, signal.SIGHUP)
"""What ends a benchmark, with all that it has begun."""
PYTHON: Final = sys.executable


class BenchError(Exception):
    """Something that a measurement stands on went wrong; the text says what."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took. peak_bytes: resident memory of the largest of its processes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where programs run. cpus: which they may use, empty for all. namespace: of the network, empty for this one."""

    cpus: str = ""
    namespace: str = ""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argument list that runs argv here."""
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        pin = ["taskset", "-c", self.cpus] if self.cpus else []
        return [*enter, *pin, *argv]


ANYWHERE: Final = Place()


class Launcher:
    """The process that starts what is measured. log: a file that gets all that measured programs print."""

    def __init__(self, log: Path) -> None:
        script = str(Path(__file__).with_name("launcher.py"))
        self._log = log
        self._process = subprocess.Popen(
            [PYTHON, "-I", "-S", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.terminate()  # with what it runs
        with self._process:
            stdin = self._process.stdin
            assert stdin is not None
            stdin.close()

    def measure(self, argv: Sequence[str], place: Place) -> Cost:
        """Run a program to its end and say what it took. Raises BenchError if it fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._log.write_text("")
        print(json.dumps({"argv": place.command(argv), "log": str(self._log)}), file=stdin, flush=True)
        answer = json.loads(stdout.readline())
        if answer.pop("status"):
            raise BenchError(f"{' '.join(argv)} failed:\n{self._log.read_text()[-2000:]}")
        return Cost(**answer)

    def output(self) -> str:
        """What the last measured program printed."""
        return self._log.read_text()


def pipeline(text: str) -> list[str]:
    """The argument list that runs a line of shell, failing if any part of a pipe fails."""
    return ["bash", "-o", "pipefail", "-c", text]


def run(argv: Sequence[str], place: Place = ANYWHERE) -> str:
    """Run a helper and return its output. Raises BenchError."""
    done = subprocess.run(place.command(argv), check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def netdump(*arguments: str | Path, place: Place = ANYWHERE) -> Any:
    """Run a netdump command with --json and return what it says. Raises BenchError."""
    return json.loads(run([PYTHON, "-m", "netdump", *map(str, arguments), "--json"], place) or "null")


@contextmanager
def service(argv: Sequence[str], place: Place, log: IO[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a service for as long as the block runs; it is ended with SIGTERM, or killed if that does not help."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until it is known whom to end
    try:
        process = subprocess.Popen(
            place.command(argv),
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=_hear,  # noqa: PLW1509  # there are no threads here
            **options,
        )
    except BaseException:
        _hear()
        raise
    try:
        _hear()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _hear() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def split_cpus() -> tuple[str, str]:
    """(client's, far end's): one CPU for a client as with nr_cpus=1, the others for the far end."""
    first, *others = sorted(os.sched_getaffinity(0))
    return str(first), ",".join(map(str, others)) or str(first)


@contextmanager
def on_cpus(cpus: str) -> Iterator[None]:
    """Keep this thread to some CPUs for as long as the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(map(int, cpus.split(","))))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
