"""The far end of the peers: an sshd of our own, with throw-away keys, on a port that the kernel chooses."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.process import PYTHON, BenchError, Place, run, service

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

READY_TIMEOUT: Final = 20
SEPARATION_FOLDER: Final = Path("/run/sshd")  # sshd as root refuses to run without it

_SERVER: Final = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/client_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
Subsystem sftp internal-sftp
"""
_CLIENT: Final = """\
Host far
    HostName {address}
    Port {port}
    User {user}
    IdentityFile {folder}/client_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking accept-new
    BatchMode yes
    LogLevel VERBOSE
"""


class SshServer:
    """A running sshd. config: for `ssh -F`, which knows it as the host `far`."""

    def __init__(self, config: Path) -> None:
        self.ssh: Final = f"ssh -F {config}"
        self.scp: Final = f"scp -F {config}"

    def sink(self, target: Path) -> str:
        """The end of a pipe: what comes is written to target, and durable when ssh ends."""
        return f"{self.ssh} far 'dd of={target} bs=1M iflag=fullblock conv=fsync status=none'"


@contextmanager
def ssh_server(folder: Path, address: str, place: Place, client: Place) -> Iterator[SshServer]:
    """Run an sshd at an address for as long as the block runs. folder: for its keys."""
    folder.mkdir(mode=0o700)
    for key in ("host_key", "client_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)])
    if os.geteuid() == 0:
        SEPARATION_FOLDER.mkdir(mode=0o755, exist_ok=True)
    facts = {"folder": folder, "address": address, "port": free_port(address, place), "user": _user()}
    (folder / "sshd_config").write_text(_SERVER.format(**facts))
    (folder / "ssh_config").write_text(_CLIENT.format(**facts))
    argv = [run(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin command -v sshd"]).strip(), "-D", "-e", "-f"]
    with (
        (folder / "sshd.log").open("w") as log,
        service([*argv, str(folder / "sshd_config")], place, log) as process,
    ):
        server = SshServer(folder / "ssh_config")
        _wait(server, process, client, folder / "sshd.log")
        yield server


def _wait(server: SshServer, process: subprocess.Popen[str], client: Place, log: Path) -> None:
    limit = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            run(["sh", "-c", f"{server.ssh} far true"], client)
        except BenchError as error:
            if process.poll() is not None or time.monotonic() > limit:
                raise BenchError(f"sshd does not answer: {error}\n{log.read_text()}") from error
            time.sleep(0.05)
        else:
            return


def free_port(address: str, place: Place) -> int:
    """A port of that address that nobody listens on."""
    if not place.namespace:
        with socket.create_server((address, 0)) as probe:
            port: int = probe.getsockname()[1]
            return port
    text = f"import socket; print(socket.create_server(({address!r}, 0)).getsockname()[1])"
    return int(run([PYTHON, "-c", text], place))


def _user() -> str:
    return run(["id", "-un"]).strip()
