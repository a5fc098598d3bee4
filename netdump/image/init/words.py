"""What the kernel command line changes of the plan: `netdump.collectors=`, `netdump.deadline=`, `MODULE.NAME=`.

Owns which words concern the init. The client reads those of netdump and all others of that prefix itself, and says
which it leaves out. Imports next to nothing unless there is such a word: process 1 reads this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.client.words import COMMAND_LINE, parse_words, words_for_kernel
from netdump.image.init.plan import parse_seconds

if TYPE_CHECKING:
    from netdump.image.init.plan import Plan

COLLECTORS, DEADLINE = "collectors", "deadline"


def heed(plan: Plan, path: str = COMMAND_LINE) -> Plan:
    """The plan as the command line wants it; as it is where that cannot be, or where nobody tells the line."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = file.read()
    except OSError:
        return plan
    words = parse_words(line)
    return _with_deadline(_with_collectors(plan, words.get(COLLECTORS)), words.get(DEADLINE))


def _with_collectors(plan: Plan, word: str | None) -> Plan:
    if word is None:
        return plan
    from netdump.client.config import parse_collectors  # noqa: PLC0415 - much that process 1 has no other use for
    from netdump.errors import ConfigError  # noqa: PLC0415

    try:
        addresses = parse_collectors(word)
    except ConfigError:
        return plan
    return plan._replace(collectors=tuple((each.host, each.port) for each in addresses))


def _with_deadline(plan: Plan, word: str | None) -> Plan:
    try:
        return plan if word is None else plan._replace(deadline=parse_seconds(word))
    except ValueError:
        return plan
