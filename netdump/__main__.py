"""The `netdump` command.

`netdump send` runs inside the capture kernel, where every import counts: it is handed over before the command line
of all the others, and its libraries, are loaded.
"""

from __future__ import annotations

import sys

INTERRUPTED_STATUS = 130  # 128 + SIGINT, as shells report it


def main() -> int:
    """Run the command line of this process and return its exit status."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["send"]:
            from netdump.client.__main__ import run  # noqa: PLC0415

            try:
                run(arguments[1:])
            except ModuleNotFoundError as error:
                from netdump.cli.main import report_missing  # noqa: PLC0415

                return report_missing(error, arguments)
        from netdump.cli.main import main as others  # noqa: PLC0415

        return others(arguments)
    except KeyboardInterrupt:  # while the above were being imported: later they answer it themselves
        sys.stderr.write("netdump: interrupted\n")
        return INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
