"""The main contest: a core sent until the far end has it durably, by netdump and by what people use today."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

import netdump
from bench.contest import Contestant
from bench.process import PYTHON, BenchError, Launcher, pipeline, split_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.collector import Collector
    from bench.process import Place
    from bench.sshd import SshServer


@dataclass(frozen=True, slots=True)
class Arena:
    """What contestants work with. far_folder: where sshd's side writes. client: where client sides run."""

    collector: Collector
    sshd: SshServer
    far_folder: Path
    bundles: Path
    client: Place
    launcher: Launcher


def send_command(core: Path, bundle: Path, *options: str) -> list[str]:
    """`netdump send`, as the capture image runs it."""
    # The image has its modules on the path by itself; here it takes what `site` would add, without the time that takes.
    path = [str(Path(str(module.__file__)).parents[1]) for module in (netdump, zstandard)]
    program = f"import sys; sys.path[:0] = {path}; from netdump.client.__main__ import run; run(sys.argv[1:])"
    return [PYTHON, "-I", "-S", "-B", "-c", program, str(core), "--config", str(bundle), "--json", "-q", *options]


def ours(arena: Arena, core: Path, level: int, *, settings: Sequence[str] = (), name: str = "") -> Contestant:
    """netdump send. settings: lines for [send] of the bundle."""
    bundle = bundle_with(arena, settings)

    def finish() -> int:
        wire_bytes = json.loads(arena.launcher.output().splitlines()[-1])["wire_bytes"]
        dumps = arena.collector.settle()
        if [dump.image_bytes for dump in dumps] != [core.stat().st_size]:
            raise BenchError(f"netdump delivered something else than {core}: {dumps}")
        arena.collector.clear()
        return int(wire_bytes)

    argv = send_command(core, bundle, "-d", str(level))
    return Contestant(name or f"netdump -d {level}", arena.client, lambda: argv, finish, ours=True)


def makedumpfile(arena: Arena, core: Path, level: int, method: str = "l") -> Contestant:
    """makedumpfile -F | ssh. method: l for lzo, c for zlib."""
    name = f"makedumpfile -F -{method} -d {level} | ssh"
    return _piped(arena, name, f"makedumpfile -F -{method} -d {level} {core}")


def zstd(arena: Arena, core: Path) -> Contestant:
    """zstd -1 | ssh; one thread, as it does by default."""
    return _piped(arena, "zstd -1 | ssh", f"zstd -q -1 -c {core}")


def cat(arena: Arena, core: Path) -> Contestant:
    """cat | ssh."""
    return _piped(arena, "cat | ssh", f"cat {core}")


def scp(arena: Arena, core: Path) -> Contestant:
    """scp, and a sync of the file without the second connection that this would take from afar: in scp's favour."""
    target = arena.far_folder / "vmcore"
    argv = pipeline(f"{arena.sshd.scp} {core} far:{target} && sync {target}")
    return Contestant("scp", arena.client, lambda: argv, lambda: _arrived(target))


def bare(arena: Arena, core: Path, certificate: Path) -> Contestant:
    """Nothing but what has to be done, at both ends (bench/floor.py)."""
    target = arena.far_folder / "vmcore"
    argv = [PYTHON, "-m", "bench.floor", str(core), str(certificate), split_cpus()[1], str(target)]
    return Contestant("bare loops, no program", arena.client, lambda: argv, lambda: _arrived(target), bare=True)


def _piped(arena: Arena, name: str, producer: str) -> Contestant:
    target = arena.far_folder / "vmcore"
    argv = pipeline(f"{producer} | {arena.sshd.sink(target)}")
    return Contestant(name, arena.client, lambda: argv, lambda: _arrived(target))


def _arrived(target: Path) -> int:
    size = target.stat().st_size
    target.unlink()
    if not size:
        raise BenchError(f"nothing has arrived in {target}")
    return size


def bundle_with(arena: Arena, settings: Sequence[str]) -> Path:
    """The host's bundle with settings as lines of [send]."""
    if not settings:
        return arena.collector.host
    path = arena.bundles / ("-".join(settings).replace(" ", "").replace("=", "") + f"-{arena.collector.pid}.toml")
    path.write_text("\n".join((arena.collector.host.read_text(), "[send]", *settings, "")))
    path.chmod(0o600)
    return path
