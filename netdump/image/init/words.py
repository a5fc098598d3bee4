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
    words = parse_words(_read(path))
    return _with_deadline(_with_collectors(plan, words.get(COLLECTORS)), words.get(DEADLINE))


def module_options(path: str = COMMAND_LINE) -> dict[str, tuple[str, ...]]:
    """What the command line says of modules, by module, as modprobe reads it from there: options for loading them.

    The kernel itself heeds such words for what is built in only. Empty where nobody tells the line.
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in words_for_kernel(_read(path)):
        name, equals, value = word.replace('"', "").partition("=")
        module, _, parameter = name.partition(".")
        if module and parameter:
            module = module.replace("-", "_")
            found[module] = (*found.get(module, ()), f'{parameter}="{value}"' if equals else parameter)
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


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
