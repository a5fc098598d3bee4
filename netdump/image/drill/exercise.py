"""One drill from beginning to end.

Owns the process of the client, and what is told of it. The image is built anew, as `netdump arm` would build it now.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netdump.errors import DrillError
from netdump.image.build import gather
from netdump.image.drill.chroot import CORE, DrillFiles, enter_or_end
from netdump.image.drill.core import make_core
from netdump.image.init.plan import BUNDLE_PATH
from netdump.image.init.supervisor import CLIENT, ENVIRONMENT

if TYPE_CHECKING:
    from netdump.image.build import ImageSpec

DEADLINE = 120.0  # seconds, by default
GRACE = 30.0  # seconds beyond it, after which the client is killed


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that was delivered. report: of the client, as `netdump send --json` prints it. Times in seconds."""

    report: dict[str, Any]
    core_bytes: int
    gather_seconds: float
    start_seconds: float
    send_seconds: float


def exercise(spec: ImageSpec, root: Path, command_line: str, deadline: float = DEADLINE) -> Drill:
    """Gather what the image would hold, make a dump, and send it with the image's client, which talks on stderr.

    root: where kernels and /proc lie. command_line: of the capture kernel, whose netdump.* words count. deadline:
    seconds for sending. Raises DrillError, and what building an image raises.
    """
    if os.geteuid():
        raise DrillError("only root can start the client among the files of its image: run it as root")
    started = time.monotonic()
    contents = gather(spec, root)
    remark = f"drill of {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC, by netdump doctor"
    core = make_core(root, remark)
    began = time.monotonic()
    report = _send(DrillFiles(contents, core, command_line), remark, deadline)
    sent = float(report["seconds"])
    return Drill(report, len(core), began - started, max(0.0, time.monotonic() - began - sent), sent)


def _send(files: DrillFiles, remark: str, deadline: float) -> dict[str, Any]:
    options = (
        "--config",
        BUNDLE_PATH,
        "--deadline",
        f"{deadline:g}",
        "--drill",
        "--remark",
        remark,
        "-d",
        "0",
        "--json",
    )
    with tempfile.TemporaryDirectory(prefix="netdump-drill-") as room:
        try:
            done = subprocess.run(
                [*CLIENT, *options, CORE],
                preexec_fn=partial(enter_or_end, Path(room), files),
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                timeout=deadline + GRACE,
                check=False,
                text=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DrillError(f"the client of the image cannot be run: {error}") from error
    return _judge(done.returncode, done.stdout)


def _judge(status: int, output: str) -> dict[str, Any]:
    """The report of a client that delivered. Raises DrillError."""
    try:
        report: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise DrillError(f"the client of the image ended {how} and did not say why: see its output above") from None
    if status:
        raise DrillError(f"the client of the image ended with status {status}: {report['error']['message']}")
    return report
