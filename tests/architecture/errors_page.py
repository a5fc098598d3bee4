"""Renders docs/errors.md from netdump/errors.py: `python -m tests.architecture.errors_page > docs/errors.md`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from netdump.errors import NetdumpError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# Exit statuses and error codes

A command that fails prints one sentence on stderr, with `--json` also `{"error": {"code": …, "message": …}}` on stdout,
and ends with the status below. 0 is success, 2 a wrong command line (code `usage`), 130 an interrupt (Ctrl-C; code
`interrupted`), 143 a SIGTERM, 129 a hangup (SIGHUP: the terminal or the ssh session is gone).
141, as shells show a SIGPIPE: who read the output went away before its end, as `head` does.
*Again*: the same command may succeed later without anybody's doing.

| status | code | meaning | again |
|---|---|---|---|
"""


def all_errors(root: type[NetdumpError] = NetdumpError) -> Iterator[type[NetdumpError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == "netdump.errors":
            yield from all_errors(child)


def first_line(error: type[NetdumpError]) -> str:
    return (inspect.getdoc(error) or "").splitlines()[0]


def page() -> str:
    rows = sorted(all_errors(), key=lambda error: error.exit_status)
    return HEAD + "".join(
        f"| {error.exit_status} | `{error.code}` | {first_line(error)} | {'yes' if error.retryable else 'no'} |\n"
        for error in rows
    )


if __name__ == "__main__":
    print(page(), end="")
