"""SECURITY.md says every limit with its default, and names only tests that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from netdump.server.config import iter_keys

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
# Settings that limit nobody: where to listen, whom to name, what to keep.
NO_LIMITS = {"listen", "advertise", "keep_vmcore", "enabled"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    table = TEXT[TEXT.index(heading) :].split("\n\n")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert found, heading
    return found


def test_every_limit_has_its_default_and_a_reason() -> None:
    said = [(name.strip("`"), default.strip("`")) for name, default, _ in rows("| setting | default | why |")]
    known = [(f"{key.section}.{key.name}", key.default) for key in iter_keys() if key.name not in NO_LIMITS]
    assert sorted(said) == sorted(known)
    assert all(len(why) > 10 for _, _, why in rows("| setting | default | why |"))


def test_fixed_limits_are_those_of_the_code() -> None:
    for what, value, constant in rows("| limit | value | constant |"):
        module, _, name = constant.strip("`").rpartition(".")
        assert value == str(getattr(importlib.import_module(module), name)), what


def test_the_tests_that_show_something_exist() -> None:
    for fault, _, shown in rows("| fault there | here | shown by |"):
        assert shown, fault
    for path in re.findall(r"tests/[\w/]+(?:\.py)?", TEXT):
        assert (ROOT / path).exists(), path
