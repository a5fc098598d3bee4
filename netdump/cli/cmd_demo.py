"""`netdump demo`: the main job on loopback, with the real programs and a real crash dump.

Every step is a command that a user would type, started as a process of its own; only the fault proxy that cuts the
connection runs in here.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from netdump import samples
from netdump.cli.signals import caught, orderly_end
from netdump.errors import DemoError
from netdump.testing.fault_proxy import FaultProxy, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST: Final = "crashy"
ANALYST: Final = "ann"
CUT_AT_SHARE: Final = 0.08  # of the core's size: the bundled one needs twice that on the wire
STOP_TIMEOUT: Final = 30


@click.command("demo", short_help="Show all of netdump on this machine, with a real dump.")
@click.option(
    "--core",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this core instead of the bundled one.",
)
@click.option("--keep", is_flag=True, help="Leave the folder with everything in it behind.")
def command(core: Path | None, *, keep: bool) -> None:
    """Show all of netdump on this machine: collect, enroll, send, cut, resume, list, fetch, compare.

    A collector on loopback with an authority of its own, a host enrolled by token, a real kernel core sent over TLS,
    the connection cut in mid-transfer and resumed, then list, show, log and fetch, and a comparison of what came back
    with what was sent. Nothing leaves the machine; everything is removed at the end.
    """
    with orderly_end():
        folder = Path(tempfile.mkdtemp(prefix="netdump-demo-"))
        try:
            Demo(folder).run(core)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is under way
            if keep:
                click.echo(f"\nEverything is left in {folder}")
            else:
                shutil.rmtree(folder)


class Demo:
    """The steps, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = folder / "collector"
        self._started = time.monotonic()
        self._steps = 0
        click.echo(f"DEMO stands for {folder}")

    def run(self, core: Path | None) -> None:
        """Do all steps. Raises DemoError at the first that fails."""
        core = core or self._bundled_core()
        self._step("make a collector: its own certificate authority, keys and settings")
        self._netdump("init", self._root, "--name", "localhost,127.0.0.1")
        self._step("run it on ports that the kernel chooses")
        with self._collector() as addresses:
            host, _, port = addresses["ingest"].rpartition(":")
            cut_after = int(core.stat().st_size * CUT_AT_SHARE)
            with FaultProxy((host, int(port)), [Faults(cut_up=cut_after)]) as proxy:
                self._step("enroll a host that may upload, and an analyst who may read, each with a one-time token")
                bundle = self._enroll("host", HOST, addresses["api"], f"127.0.0.1:{proxy.address[1]}")
                analyst = self._enroll("analyst", ANALYST, addresses["api"])
                self._step(
                    f"send the core; the connection is cut after {cut_after:,} bytes, and the client goes on by itself"
                )
                self._netdump("send", core, "--config", bundle)
                self._tell_passages(proxy)
            self._read_back(core, analyst)
        click.echo(f"\nAll {self._steps} steps done in {time.monotonic() - self._started:.1f} s.")

    def _read_back(self, core: Path, analyst: Path) -> None:
        self._step("list what the collector knows")
        config = ("--config", analyst)
        (dump,) = json.loads(self._netdump("list", *config, "--json", quiet=True).stdout)["dumps"]
        short = dump["id"][:12]
        self._netdump("list", *config)
        self._step("show the dump, and the end of its kernel log")
        self._netdump("show", short, *config)
        log = self._netdump("log", short, *config, quiet=True).stdout.splitlines()
        self._say_command("log", short, *config)
        click.echo("\n".join(["    …", *(f"    {line}" for line in log[-5:])]))
        self._step("fetch it back")
        fetched = self._folder / "vmcore"
        self._netdump("fetch", short, "-o", fetched, *config)
        self._step("compare byte for byte with what was sent")
        sent, got = _sha256(core), _sha256(fetched)
        click.echo(f"    sent     {core.stat().st_size:>13,} bytes  SHA-256 {sent}")
        on_disk = fetched.stat().st_blocks * 512
        click.echo(f"    fetched  {fetched.stat().st_size:>13,} bytes  SHA-256 {got}  ({on_disk:,} on disk)")
        if sent != got:
            raise DemoError("the fetched file differs from the core that was sent: please report this")
        click.echo("    equal")

    def _bundled_core(self) -> Path:
        self._step("unpack the bundled core: a Debian 6.1 kernel that panicked (sysrq-c), saved by kdump")
        core = self._folder / "core"
        try:
            size = samples.write_core(core)
        except OSError as error:
            raise DemoError(f"{core} cannot be written: {error.strerror}; TMPDIR names another place") from error
        click.echo(f"    {samples.CORE.name}: {samples.CORE.stat().st_size:,} bytes, {size:,} unpacked")
        return core

    def _enroll(self, role: str, name: str, api: str, collector: str | None = None) -> Path:
        out = self._folder / f"{name}.toml"
        token = json.loads(self._netdump("token", self._root, f"--{role}", name, "--json").stdout)["token"]
        more = ("--collector", collector) if collector else ()
        self._netdump("enroll", f"https://{api}", "--token", token, "--out", out, *more)
        return out

    @contextmanager
    def _collector(self) -> Iterator[dict[str, str]]:
        """Run `netdump serve` for as long as the block runs, and stop it as an administrator would."""
        arguments = ("serve", self._root, "--ingest", "127.0.0.1:0", "--api", "127.0.0.1:0")
        self._say_command(*arguments)
        journal = self._folder / "serve.log"
        with journal.open("w") as log:
            process = _start(*arguments, stderr=log)
            try:
                assert process.stdout is not None
                ready = process.stdout.readline()
                if not ready:
                    raise DemoError(f"the collector did not start:\n{journal.read_text()}")
                click.echo(f"    {ready.rstrip()}")
                addresses: dict[str, str] = json.loads((self._root / "serve.json").read_text())
                yield addresses
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise

    def _tell_passages(self, proxy: FaultProxy) -> None:
        for passage in proxy.passages:
            end = "cut" if passage.faults.cut_up is not None else "finished"
            click.echo(f"    connection {passage.number + 1}: {passage.up:,} bytes sent, then {end}")
        if len(proxy.passages) < 2:
            raise DemoError("the connection was not cut: the core was too small, or the client did not resume")

    def _netdump(self, *arguments: Any, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Run one netdump command and show it with what it prints. Raises DemoError."""
        if not quiet:
            self._say_command(*arguments)
        with _start(*arguments, stderr=subprocess.PIPE) as process:
            try:
                stdout, stderr = process.communicate()
            finally:
                process.kill()  # does nothing to one that has ended
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        if not quiet or done.returncode:
            for line in (done.stderr + done.stdout).splitlines():
                click.echo(f"    {line}".replace(str(self._folder), "DEMO"))
        if done.returncode:
            raise DemoError(f"`netdump {arguments[0]}` ended with status {done.returncode}; what it said stands above")
        return done

    def _step(self, text: str) -> None:
        self._steps += 1
        click.echo(f"\n[{self._steps}] {text}")

    def _say_command(self, *arguments: Any) -> None:
        click.echo(f"    $ netdump {shlex.join(map(str, arguments))}".replace(str(self._folder), "DEMO"))


def _start(*arguments: Any, stderr: int | IO[str]) -> subprocess.Popen[str]:
    """Start a netdump command. A signal meanwhile counts once the process is known, so that it is not left behind."""
    arrived: list[int] = []
    with caught(lambda number, _frame: arrived.append(number)):
        process = subprocess.Popen(_command(*arguments), stdout=subprocess.PIPE, stderr=stderr, text=True)
    if arrived:
        with process:
            process.kill()
        signal.raise_signal(arrived[0])
    return process


def _command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "netdump", *map(str, arguments)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
