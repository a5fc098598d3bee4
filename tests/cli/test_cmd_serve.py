"""`netdump serve` as a process: readiness, signals, kills in the middle of a dump, systemd."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, cast

from netdump import wire
from netdump.errors import AddressError, BusyError, ConfigMissingError
from netdump.server.config import Address
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from tests.server.conftest import Template, folder, template, web1
from tests.server.rig import PATIENCE_S, Host, Papers, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from tests.cli.commands import Shell

__all__ = ["folder", "template", "web1"]  # fixtures

DUMP = SampleDump(seed=121, image_bytes=3_000_000, chunk_bytes=65_536)
REFUSES_FILES = """
import resource

def refuse(*_):
    raise ValueError("not allowed to raise maximum limit")

resource.setrlimit = refuse
"""
ENDS = [0, *(chunk.offset + chunk.length for chunk in DUMP.chunks)]


@dataclasses.dataclass
class Running:
    """A collector's process, in the place of a Rig."""

    folder: Path
    process: subprocess.Popen[str]
    ready: str
    ingest: Address
    api: Address
    is_running: bool = False  # its clock cannot be put forward


def arguments(folder: Path, *more: str) -> list[str]:
    ports = ("--ingest", "127.0.0.1:0", "--api", "127.0.0.1:0")
    return [sys.executable, "-m", "netdump", "serve", str(folder), *(more or ports)]


@contextlib.contextmanager
def serving(
    folder: Path, log: Path | None = None, prefix: tuple[str, ...] = (), **environment: str
) -> Iterator[Running]:
    """Run a collector until the block ends, or was ended in it, without a terminal. prefix: of the command."""
    with (log or folder.parent / "serve.log").open("a") as stderr:
        process = subprocess.Popen(
            [*prefix, *arguments(folder)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        ready = cast("IO[str]", process.stdout).readline()
        status = json.loads((folder / "serve.json").read_text())
        assert status["pid"] == process.pid
        host, _, port = status["ingest"].rpartition(":")
        api_host, _, api_port = status["api"].rpartition(":")
        yield Running(folder, process, ready, Address(host, int(port)), Address(api_host, int(api_port)))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        cast("IO[str]", process.stdout).close()


def test_as_many_files_as_the_system_allows(folder: Path) -> None:
    """1,024 is what a shell gives, and more than 500 connections need."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with serving(folder, prefix=("prlimit", f"--nofile=256:{allowed}")) as running:
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
        assert limits == (allowed, allowed)


def test_a_limit_of_open_files_that_the_system_refuses(folder: Path) -> None:
    """As setrlimit(2) does with a hard limit above fs.nr_open: the collector goes on with the limit that it has."""
    site = folder.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(REFUSES_FILES)
    log = folder.parent / "refused.log"
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    with serving(folder, log, prefix=("prlimit", "--nofile=512:4096"), PYTHONPATH=path) as running:
        assert running.ready
        assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE) == (512, 4096)
        assert stop(running) == 0
    (line,) = map(json.loads, log.read_text().splitlines())
    del line["time"]
    reason = "not allowed to raise maximum limit"
    assert line == {"event": "open-files-limited", "files": 512, "wanted": 4096, "reason": reason}


def publish_soon(folder: Path) -> None:
    (folder / "config.toml").write_text("[store]\npublish_s = 1\n")


def stop(running: Running, number: int = signal.SIGTERM) -> int:
    running.process.send_signal(number)
    return running.process.wait(PATIENCE_S)


def connect(running: Running, papers: Papers) -> Host:
    return Host(cast("Rig", running), papers)


def test_ready_and_stopped(folder: Path) -> None:
    with serving(folder) as running:
        assert running.ready == f"ready: ingest {running.ingest}, api {running.api}\n"
        assert running.ingest.port
        assert stop(running, signal.SIGTERM) == 0
        assert cast("IO[str]", running.process.stdout).read() == ""
    assert not (folder / "serve.json").exists()
    assert (folder.parent / "serve.log").read_text() == ""


def test_sigterm_in_mid_transfer(folder: Path, web1: Papers) -> None:
    publish_soon(folder)
    place = 20
    with serving(folder) as running, connect(running, web1) as host:
        host.resume(DUMP)
        host.headline(DUMP)
        host.chunks(DUMP.chunks[:place])
        host.await_ack(ENDS[place])
        host.chunks(DUMP.chunks[place : place + 5])
        running.process.send_signal(signal.SIGTERM)
        while isinstance(answer := host.hear(), wire.Ack):
            pass
        assert isinstance(answer, wire.Error)
        assert answer.code is wire.ErrorCode.SHUTTING_DOWN
        host.socket.close()
        assert running.process.wait(PATIENCE_S) == 0
    with serving(folder) as running, connect(running, web1) as host:
        assert host.resume(DUMP).offset in ENDS[place : place + 6]
        assert stop(running) == 0


def test_sighup_without_a_terminal_ends_nothing(folder: Path, web1: Papers) -> None:
    """systemd takes an end by SIGHUP for one that was wanted, and does not start the collector again."""
    with serving(folder) as running:
        running.process.send_signal(signal.SIGHUP)
        with connect(running, web1) as host:
            assert isinstance(host.send_all(DUMP), wire.Receipt)
        assert stop(running) == 0
    assert '"settings-kept"' in (folder.parent / "serve.log").read_text()


def test_the_end_of_its_terminal_stops_it(folder: Path) -> None:
    ours, its = os.openpty()
    with_terminal = ("/bin/sh", "-c", f'exec <{os.ttyname(its)}; exec "$@"', "sh")
    with serving(folder, prefix=with_terminal) as running:
        os.close(its)
        os.close(ours)
        assert running.process.wait(PATIENCE_S) == 0
    assert not (folder / "serve.json").exists()


def test_sigkill_in_mid_transfer(folder: Path, web1: Papers) -> None:
    """Killed again and again at no particular place: what was acknowledged is there, at the end the dump is exact."""
    publish_soon(folder)
    acked = 0
    for places in ((5, 9), (25, 40)):
        with serving(folder) as running, connect(running, web1) as host:
            resume = host.resume(DUMP)
            assert resume.offset >= acked
            if not resume.headline:
                host.headline(DUMP)
            first = ENDS.index(resume.offset)
            host.chunks(DUMP.chunks[first : places[0]])
            host.await_ack(ENDS[places[0]])
            acked = ENDS[places[0]]
            host.chunks(DUMP.chunks[places[0] : places[1]])
            running.process.kill()
            host.ended()
    with serving(folder) as running:
        with connect(running, web1) as host:
            resume = host.resume(DUMP)
            assert resume.offset >= acked
            host.chunks(chunk for chunk in DUMP.chunks if chunk.offset >= resume.offset)
            assert isinstance(host.finish(DUMP), wire.Receipt)
        assert stop(running) == 0
    dump = Store(folder / "dumps").dump(DUMP.origin.id)
    assert dump.verify().ok
    dump.reassemble()
    assert cast("Path", dump.vmcore_path).read_bytes() == DUMP.image
    events = [json.loads(line)["event"] for line in (folder.parent / "serve.log").read_text().splitlines()]
    assert events.count("dump-arrives") == 3
    assert events.count("dump-complete") == 1


def test_systemd(folder: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE_S)
        manager.bind(str(tmp_path / "notify"))
        with serving(folder, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="50000") as running:
            first = manager.recv(1000)
            assert first == b"READY=1\nSTATUS=" + running.ready.rstrip().encode()
            assert manager.recv(1000) == manager.recv(1000) == b"WATCHDOG=1"
            assert stop(running) == 0
            while (word := manager.recv(1000)) == b"WATCHDOG=1":
                pass
            assert word == b"STOPPING=1"


def failing(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_second_one_is_refused_and_the_first_ended_by_ctrl_c(folder: Path) -> None:
    with serving(folder) as running:
        done = failing(*arguments(folder))
        assert done.returncode == BusyError.exit_status
        assert done.stderr == f"netdump: another collector runs on {folder}, or its index is being rebuilt\n"
        assert stop(running, signal.SIGINT) == 0
        assert cast("IO[str]", running.process.stdout).read() == ""
    assert not (folder / "serve.json").exists()
    assert (folder.parent / "serve.log").read_text() == ""


def test_what_cannot_be_served(folder: Path, tmp_path: Path, shell: Shell) -> None:
    done = shell.run("serve", tmp_path / "nothing")
    assert done.status == ConfigMissingError.exit_status
    assert "netdump init" in done.err
    done = shell.run("serve", folder, "--ingest", "nonsense")
    assert done.status == AddressError.exit_status
    assert done.err.count("\n") == 1


def test_mistakes_of_libraries_are_logged_as_events(template: Template) -> None:
    code = (
        "import logging, sys\n"
        "from netdump.cli.cmd_serve import _route_logs\n"
        "from netdump.server.audit import LogBridge, open_audit\n"
        "_route_logs(LogBridge(open_audit(sys.stderr)))\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('asyncio').exception('it\\nfailed')\n"
        "logging.getLogger('uvicorn.error').info('not told')\n"
    )
    done = failing(sys.executable, "-c", code)
    event = json.loads(done.stderr)
    assert (event["event"], event["source"], event["message"]) == ("library", "asyncio", "it\\nfailed")
    assert event["error"] == "ZeroDivisionError: division by zero"
    assert event["trace"] == "<string>:6 <module>"
