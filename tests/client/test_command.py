"""The whole command, in this process: what it prints and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import netdump.client.command
from netdump.client.command import DEADLINE_CAPTURE, DEADLINE_FILE, main
from netdump.client.delivery import Delivery, Outcome
from netdump.client.image import Image
from netdump.client.watchdog import GRACE, Watchdog
from netdump.errors import (
    BundleError,
    ConfigError,
    ConfigMissingError,
    DeadlineError,
    DeclinedError,
    ImpostorError,
    NotElfError,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
)
from netdump.wire import Decline, DeclineCode, Defer, Error, ErrorCode, unpack_document
from tests.client.certificates import Authority
from tests.client.collector import Manners
from tests.client.test_image import write_core

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.client.address import Address
    from netdump.client.config import Credentials
    from tests.client.conftest import StartCollector

FAST = "retry_min = 0.05\nretry_max = 0.1\npatience = 1\n"


class Host:
    """A host with a core and a bundle."""

    def __init__(self, folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        self.core = folder / "core"
        self.bundle = folder / "client.toml"
        self.image = write_core(self.core)
        self._authority = authority
        self.cmdline = folder / "cmdline"
        self.cmdline.write_text("quiet\n")
        monkeypatch.setattr(netdump.client.command, "COMMAND_LINE", str(self.cmdline))

    def enroll(self, *addresses: Address, send: str = FAST, credentials: Credentials | None = None) -> None:
        """Write the bundle."""
        tls = credentials or self._authority.credentials()
        listed = ", ".join(f'"{address}"' for address in addresses)
        self.bundle.write_text(
            f'version = 1\nname = "web1"\nrole = "host"\ncollectors = [{listed}]\napi = "https://127.0.0.1:1"\n'
            f"[tls]\nca = '''{tls.ca}'''\ncertificate = '''{tls.certificate}'''\nkey = '''{tls.key}'''\n[send]\n{send}"
        )
        self.bundle.chmod(0o600)

    def send(self, *arguments: str) -> int:
        return main([str(self.core), "--config", str(self.bundle), *arguments])


@pytest.fixture
def host(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, authority, monkeypatch)


def sentences(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr; nothing may be on stdout."""
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.startswith("netdump: ") for line in err.splitlines())
    return [line.removeprefix("netdump: ") for line in err.splitlines()]


def test_a_dump_is_delivered(host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]) -> None:
    collector = start_collector()
    host.enroll(collector.address)
    assert host.send() == 0
    assert bytes(collector.only().image) == host.image
    lines = sentences(capfd)
    assert lines[0].startswith("dump ")
    assert f"MiB in {host.core} of Linux 6.1.0-test, to {collector.address}" in lines[0]
    assert f"of web1 is complete at {collector.address}: {len(host.image)} bytes sent as" in lines[-1]
    assert lines[-1].endswith(f"root {collector.only().root.hex()}")
    (hello,) = collector.hellos
    assert lines[0].startswith(f"dump {hello.dump_id.hex()[:12]}: ")
    assert hello.agent.startswith("netdump/")


def test_sent_again_it_is_answered_at_once(
    host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]
) -> None:
    collector = start_collector()
    host.enroll(collector.address)
    assert host.send("-q") == host.send() == 0
    assert "it was already, nothing was sent" in sentences(capfd)[-1]


def test_json(host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]) -> None:
    collector = start_collector()
    host.enroll(collector.address)
    assert host.send("--json", "-q", "--drill", "--remark", "a drill") == 0
    out, err = capfd.readouterr()
    assert err == ""
    members = json.loads(out)
    assert members["image_bytes"] == len(host.image)
    assert members["id"] == collector.hellos[0].dump_id.hex()
    assert collector.hellos[0].drill


def test_what_the_init_met_with_is_added_to_the_remark(host: Host, start_collector: StartCollector) -> None:
    collector = start_collector()
    host.enroll(collector.address, send='remark = "rack 7"\n')
    assert host.send("-q", "--circumstances", "eth0 (dhcp): no carrier") == 0
    headline = collector.only().headline
    assert headline is not None
    remark = unpack_document(headline).remark
    assert remark is not None
    assert remark.startswith("rack 7; eth0 (dhcp): no carrier")
    assert collector.only().remark == ""  # it was told


def test_what_the_init_met_with_after_the_headline_is_told_at_the_end(
    host: Host, start_collector: StartCollector
) -> None:
    """That a client was killed, say, of which its next one knows. [W-66]"""
    collector = start_collector([Manners(retort=(1, Error(ErrorCode.BAD_FIELD)))])
    host.enroll(collector.address)
    assert host.send("-q", "--circumstances", "eth0: slow") == 30
    assert host.send("-q", "--circumstances", "eth0: slow; the client ended by signal 9") == 0
    kept = collector.only()
    assert kept.headline is not None
    assert "signal 9" not in (unpack_document(kept.headline).remark or "")
    assert kept.remark == "eth0: slow; the client ended by signal 9"


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(host: Host, start_collector: StartCollector, threads: int) -> None:
    collector = start_collector()
    host.enroll(collector.address, send=f"threads = {threads}\ncompression = {threads - 1}\n")
    assert host.send("-q") == 0
    assert bytes(collector.only().image) == host.image


OURS = ("watchdog", "compress-")


def test_a_system_that_lets_no_thread_be_started(
    host: Host, start_collector: StartCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limit of processes is reached, as after a fork bomb: threads are for speed and for the deadline only."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(OURS):
            raise RuntimeError("can't start new thread")
        start(thread)

    collector = start_collector()
    host.enroll(collector.address, send="threads = 3\n")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert host.send("-q") == 0
    assert bytes(collector.only().image) == host.image
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_words_of_the_kernel_command_line(host: Host, start_collector: StartCollector) -> None:
    collector = start_collector()
    host.enroll(collector.address)
    host.cmdline.write_text(f"quiet netdump.level=1 netdump.drill netdump.collectors={collector.address}\n")
    assert host.send("-q") == 0
    assert collector.hellos[0].level == 1
    assert collector.hellos[0].drill


def test_the_level(host: Host, start_collector: StartCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file goes as it is, memory without what can be left out; bundle, words and option go over that."""

    def level_of(*arguments: str) -> int | None:
        collector = start_collector()
        host.enroll(collector.address, send=send)
        assert host.send("-q", *arguments) == 0
        return collector.hellos[0].level

    send = ""
    assert level_of() == 0
    with monkeypatch.context() as context:
        context.setattr("netdump.client.command.source_kind", lambda *_: "vmcore")
        assert level_of() == 31
        assert level_of("-d", "0") == 0
    send = "level = 8\n"
    assert level_of() == 8
    host.cmdline.write_text("netdump.level=16\n")
    assert level_of() == 16
    assert level_of("--level", "2") == 2


def test_a_class_that_is_stopped_while_sending_is_reported(
    host: Host, start_collector: StartCollector, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Too late for the headline."""
    collector = start_collector()
    host.enroll(collector.address)
    remarks: list[str] = []
    monkeypatch.setattr(Image, "unfiltered", property(lambda _: next(iter(remarks), None)))
    run = Delivery.run

    def stop_and_run(delivery: Delivery) -> Outcome:
        remarks.append("free pages are sent too: a test")
        return run(delivery)

    monkeypatch.setattr(Delivery, "run", stop_and_run)
    assert host.send("--json") == 0
    said = capfd.readouterr()
    assert "less was left out than level 0 asks for: free pages are sent too: a test" in said.err
    assert json.loads(said.out)["unfiltered"] == "free pages are sent too: a test"


def test_a_broken_connection_is_repaired_silently_enough(
    host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]
) -> None:
    collector = start_collector([Manners(answer=Error(ErrorCode.STORAGE)), Manners(hang="tcp")])
    host.enroll(collector.address, send=FAST + "connect_timeout = 0.2\nstall_timeout = 1\n")
    assert host.send() == 0
    lines = sentences(capfd)
    assert sum("trying again in" in line for line in lines) == 2


def failed(capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The error as JSON says it; stderr ends with the same sentence."""
    out, err = capfd.readouterr()
    error: dict[str, str] = json.loads(out)["error"]
    assert err.splitlines()[-1] == f"netdump: {error['message']}"
    assert "Traceback" not in err
    return error


def test_unreachable(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: Any = "{}:{}".format(*free.getsockname()[:2])
    host.enroll(address)
    start = time.monotonic()
    assert host.send("--json") == UnreachableError.exit_status
    assert 0.9 < time.monotonic() - start < 5
    error = failed(capfd)
    assert error["code"] == "unreachable"
    assert address in error["message"]
    assert "check that the collector runs" in error["message"]


def test_the_deadline(host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]) -> None:
    collector = start_collector([Manners(answer=Defer(1)), Manners(hang="chunk:2")])
    host.enroll(collector.address, send="patience = 100\n")
    start = time.monotonic()
    assert host.send("--json", "--deadline", "2") == DeadlineError.exit_status
    assert 1.9 < time.monotonic() - start < 4
    error = failed(capfd)
    assert error["code"] == "deadline"
    assert "the deadline passed while sending" in error["message"]


def test_impostor(host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]) -> None:
    host.enroll(start_collector(pair=Authority("other").collector()).address)
    assert host.send("--json") == ImpostorError.exit_status
    assert "is not the collector's" in failed(capfd)["message"]


def test_no_tls(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    plain = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = plain.accept()
                with connection:
                    connection.sendall(b"220 mail.example ESMTP\r\n")
                    connection.recv(1 << 16)
            except ConnectionError:
                continue
            except OSError:
                return  # closed

    thread = threading.Thread(target=answer)
    thread.start()
    address: Any = "{}:{}".format(*plain.getsockname()[:2])
    host.enroll(address)
    assert host.send("--json") == RemoteProtocolError.exit_status
    plain.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    plain.close()
    assert "does not speak netdump over TLS 1.3" in failed(capfd)["message"]


def test_refused(
    host: Host, start_collector: StartCollector, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    expired = authority.credentials(authority.host(valid=dt.timedelta(days=-1)))
    host.enroll(start_collector().address, credentials=expired)
    assert host.send("--json") == RefusedError.exit_status
    assert "does not accept this host's certificate" in failed(capfd)["message"]


def test_declined(host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]) -> None:
    text = "not you\u202e"
    host.enroll(start_collector([Manners(answer=Decline(DeclineCode.NOT_OWNER, text))]).address)
    assert host.send("--json") == DeclinedError.exit_status
    out, err = capfd.readouterr()
    assert "it knows this dump as another host's" in json.loads(out)["error"]["message"]
    assert "\u202e" not in err


def test_an_expired_collector_is_accepted(host: Host, start_collector: StartCollector, authority: Authority) -> None:
    collector = start_collector(pair=authority.collector(valid=dt.timedelta(days=-1)))
    host.enroll(collector.address)
    assert host.send("-q") == 0


def test_bad_settings_and_bundles(host: Host, authority: Authority, capfd: pytest.CaptureFixture[str]) -> None:
    assert host.send("--json") == ConfigMissingError.exit_status
    assert str(host.bundle) in failed(capfd)["message"]
    host.enroll(send="")
    assert host.send("--json") == ConfigError.exit_status
    failed(capfd)
    other = authority.credentials()._replace(key=authority.host().key)
    address: Any = "127.0.0.1:1"
    host.enroll(address, credentials=other)
    assert host.send("--json") == BundleError.exit_status
    assert "PRIVATE" not in failed(capfd)["message"]
    host.enroll(address)
    assert host.send("--json", "-d", "32") == ConfigError.exit_status
    assert "level is 32, must be a whole number from 0 to 31" in failed(capfd)["message"]


@pytest.mark.parametrize("deadline", ["nan", "inf", "1e300", "-5", "0"])
def test_a_deadline_that_is_none(host: Host, deadline: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused, not obeyed by who ends this process."""
    address: Any = "127.0.0.1:1"
    host.enroll(address)
    assert host.send("--json", f"--deadline={deadline}") == ConfigError.exit_status
    assert "must be a number from 1 to" in failed(capfd)["message"]


def test_bad_cores(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    address: Any = "127.0.0.1:1"
    host.enroll(address)
    host.core.write_bytes(b"not a core at all")
    assert host.send("--json") == NotElfError.exit_status
    assert str(host.core) in failed(capfd)["message"]


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["a", "b"], ["-d", "x"], ["--elfcorehdr", "0x"], ["--conf", "x"]]
)
def test_usage_errors(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    silent, told = capfd.readouterr()
    assert silent == ""
    assert "usage: netdump send" in told
    assert main([*arguments, "--json"]) == 2
    out, err = capfd.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], err.splitlines()[-1]) == ("usage", f"netdump send: error: {error['message']}")


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--config" in capfd.readouterr().out


def test_a_readable_key_is_warned_of(
    host: Host, start_collector: StartCollector, capfd: pytest.CaptureFixture[str]
) -> None:
    host.enroll(start_collector().address)
    host.bundle.chmod(0o644)
    assert host.send("-q") == 0
    assert "readable by others" in capfd.readouterr().err


def test_important_lines_reach_the_kernel_log(
    host: Host, start_collector: StartCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    monkeypatch.setattr(netdump.client.command, "KMSG", str(log))
    collector = start_collector()
    host.enroll(collector.address)
    assert host.send("-q") == 0
    assert log.read_text() == ""
    collector.dumps.clear()
    host.enroll(collector.address, send="kmsg = true\n")
    assert host.send("-q") == 0
    assert "is complete at" in log.read_text()


def test_a_fault_of_the_sender_itself_reaches_the_kernel_log(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several consoles the traceback is on one."""
    log = tmp_path / "kmsg"
    log.touch()
    monkeypatch.setattr(netdump.client.command, "KMSG", str(log))
    monkeypatch.setattr(netdump.client.command, "source_kind", lambda *_: "oldmem")

    def load(*_: object) -> None:
        raise MemoryError("no page")

    monkeypatch.setattr(netdump.client.command, "load_config", load)
    with pytest.raises(MemoryError):
        host.send("-q")
    assert log.read_text() == "<4>netdump: the sender itself failed: MemoryError: no page"


def test_signal_handlers_are_put_back(host: Host) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    host.send("-q")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_signal_that_is_ignored_stays_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that runs in the background has SIGINT ignored: Ctrl-C is meant for others."""
    seen: list[object] = []

    def load(*_: object) -> None:
        seen.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
        raise ConfigError("enough")

    monkeypatch.setattr("netdump.client.command.load_config", load)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert host.send("-q") == ConfigError.exit_status
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[0] is signal.SIG_IGN
    assert seen[1] not in {signal.SIG_IGN, signal.SIG_DFL}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_cleanly(
    host: Host, start_collector: StartCollector, number: signal.Signals, status: int, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # these tests may run in the background of a script
    request.addfinalizer(lambda: signal.signal(number, before))
    collector = start_collector([Manners(mute="chunk:1")])
    host.enroll(collector.address)
    command = [sys.executable, "-m", "netdump.client", str(host.core), "--config", str(host.bundle), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.getcwd()
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "begins at" in line:
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert f"ended by {number.name}; what the collector has acknowledged is kept" in err
    assert "Traceback" not in err
    assert json.loads(out)["error"]["code"] == "interrupted"


def test_a_read_that_never_returns_is_ended(host: Host, start_collector: StartCollector) -> None:
    collector = start_collector()
    host.enroll(collector.address, send="deadline = 1\nthreads = 1\n")
    program = (
        "import sys, time, netdump.client.command as command; from netdump.vmcore.filesource import FileSource; "
        "command.GRACE = 0.2; FileSource.read_into = lambda *_: time.sleep(60); sys.exit(command.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(host.core), "--config", str(host.bundle)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=os.getcwd())
    assert done.returncode == DeadlineError.exit_status
    assert 1 < time.monotonic() - start < 10
    assert "the deadline has passed and the sender hangs" in done.stderr
    assert "Traceback" not in done.stderr


HANGS = [
    ("from netdump.vmcore.filesource import FileSource; FileSource.read = lambda *_: time.sleep(60)", "headers"),
    ("command.client_context = lambda *_: time.sleep(60)", "context"),
    ("command.open_image = lambda *_, **__: time.sleep(60)", "open"),
]


@pytest.mark.parametrize(("hang", "where"), HANGS, ids=[where for _, where in HANGS])
def test_what_hangs_before_the_first_connection_is_ended(host: Host, hang: str, where: str) -> None:
    address: Any = "127.0.0.1:1"
    host.enroll(address, send="deadline = 1\n")
    program = f"import sys, time, netdump.client.command as command; command.GRACE = 0.2; {hang}"
    command = [sys.executable, "-c", f"{program}; sys.exit(command.main(sys.argv[1:]))"]
    done = subprocess.run(
        [*command, str(host.core), "--config", str(host.bundle)], capture_output=True, timeout=30, cwd=os.getcwd()
    )
    assert done.returncode == DeadlineError.exit_status, where


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_stdout_that_takes_nothing_is_left_at_the_deadline(host: Host, enrolled: bool) -> None:
    """The JSON object is the last thing that is said; the watchdog must still be there."""
    if enrolled:
        address: Any = "127.0.0.1:1"
        host.enroll(address, send=FAST)
    program = (
        "import os, sys, netdump.client.command as command\n"
        "command.GRACE = 0.2\n"
        "os.set_blocking(1, False)\n"
        "try:\n    while True: os.write(1, bytes(4096))\n"
        "except BlockingIOError: os.set_blocking(1, True)\n"
        "sys.exit(command.main(sys.argv[1:]))"
    )
    arguments = [str(host.core), "--config", str(host.bundle), "--json", "--deadline", "3"]
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], stdout=write_end, timeout=20, cwd=os.getcwd()
        )
    finally:
        os.close(read_end)
        os.close(write_end)
    assert done.returncode == DeadlineError.exit_status


def test_five_seconds_after_the_deadline_it_has_ended_whatever_hangs(host: Host) -> None:
    """The source, and the console that would be told."""
    address: Any = "127.0.0.1:1"
    host.enroll(address)
    program = (
        "import os, sys, time, netdump.client.command as command\n"
        "command.open_image = lambda *_, **__: time.sleep(60)\n"
        "os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, bytes(4096))\n"
        "except BlockingIOError: os.set_blocking(2, True)\n"
        "print(time.monotonic(), flush=True)\n"
        "command.main(sys.argv[1:])"
    )
    arguments = [str(host.core), "--config", str(host.bundle), "--deadline", "1"]
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=write_end, cwd=os.getcwd()
        )
        ended = time.monotonic()
    finally:
        os.close(read_end)
        os.close(write_end)
    assert done.returncode == DeadlineError.exit_status
    assert ended - float(done.stdout) < 1 + 5


def test_the_default_deadline_is_known_before_the_core_is_opened(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    monkeypatch.setattr(Watchdog, "arm", lambda _, delay: delays.append(delay))
    address: Any = "127.0.0.1:1"
    host.enroll(address, send="retry_min = 0.05\n")
    for source, deadline in (("oldmem", DEADLINE_CAPTURE), ("file", DEADLINE_FILE)):
        delays.clear()
        assert main(["/nonexistent", "--config", str(host.bundle), "--source", source, "-q"]) != 0
        assert delays == [pytest.approx(deadline + GRACE, abs=5)] * 2


def test_without_a_main_thread_signals_are_left_alone(host: Host) -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(host.send("-q")))
    thread.start()
    thread.join(10)
    assert statuses == [ConfigMissingError.exit_status]
