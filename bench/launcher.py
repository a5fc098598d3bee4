"""Starts the programs that are measured, from a process that stays small.

The kernel counts the memory of whoever starts a program as the program's own peak (its maxrss survives exec), so the
benchmark, which grows large, has this one start them. One JSON request a line on standard input, one answer a line on
standard output. Run as a script: `python -I -S launcher.py`. SIGTERM and SIGINT end it with what it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

STOPS = (signal.SIGTERM, signal.SIGINT)


def launch(argv: list[str], log: str) -> dict[str, float]:
    """Run a program to its end. Its output is added to the file log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # One wait for all of them: a handler of Python's does not run if its signal comes just before a call that blocks.
    awaited = {*STOPS, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    begun = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setpgroup=0, setsigmask=())
    while (number := signal.sigwait(awaited)) == signal.SIGCHLD:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
    else:
        os.killpg(pid, signal.SIGKILL)
        stop(number)
    seconds = time.perf_counter() - begun
    signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
    }


def stop(number: int, _frame: object = None) -> NoReturn:
    """End, as a shell says of whom a signal has ended."""
    raise SystemExit(128 + number)


def main() -> None:
    """Answer requests until standard input ends."""
    for number in STOPS:
        signal.signal(number, stop)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(launch(request["argv"], request["log"])), flush=True)


if __name__ == "__main__":
    main()
