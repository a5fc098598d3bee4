"""The `netdump` command.

`netdump send` runs inside the capture kernel, where every import counts: it is handed over before the command line
of all the others, and its libraries, are loaded.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import NoReturn

INTERRUPTED_STATUS = 130  # 128 + SIGINT, as shells report it


def main() -> int:
    """Run the command line of this process and return its exit status."""
    open_standard_files()
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["send"]:
            from netdump.client.__main__ import run  # noqa: PLC0415

            try:
                run(arguments[1:])
            except ModuleNotFoundError as error:
                from netdump.cli.main import report_missing  # noqa: PLC0415

                return report_missing(error, arguments)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of Latin-1 cannot show all that is said
        gc.disable()  # while modules are made; the group enables it before the command runs
        from netdump.cli.main import main as others  # noqa: PLC0415

        return others(arguments)
    except KeyboardInterrupt:  # while the above were being imported: later they answer it themselves
        sys.stderr.write("netdump: interrupted\n")
        return INTERRUPTED_STATUS


def open_standard_files() -> None:
    """Let those that are closed take everything and give nothing.

    Python has None in their place, and the next file that is opened, such as a dump, would get their number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def run() -> NoReturn:
    """Run the command line of this process, and end the process: what is left of it is not taken apart (16 ms)."""
    from netdump.client.__main__ import leave  # noqa: PLC0415

    status = main()
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:  # others may still have something to finish
        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
