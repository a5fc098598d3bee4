from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from netdump.image.init import words
from netdump.image.init.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(deadline=3600, collectors=(("c.example", 7461),))


def heed(folder: Path, line: str) -> Plan:
    (folder / "cmdline").write_text(line + "\n")
    return words.heed(PLAN, str(folder / "cmdline"))


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("netdump.deadline=900 irqpoll", {"deadline": 900}),
        ("netdump.collectors=192.0.2.7,[2001:db8::7]:99", {"collectors": (("192.0.2.7", 7461), ("2001:db8::7", 99))}),
        ('netdump.deadline=9 "netdump.collectors=d:1" netdump.deadline=8', {"deadline": 8, "collectors": (("d", 1),)}),
        # The client says of these that they are left out.
        ("netdump.deadline=0 netdump.collectors=", {}),
        ("netdump.deadline=nan netdump.collectors=a:b", {}),
        ("netdump.deadline=soon netdump.collectors=" + ",".join("a" * 17), {}),
        ('netdump.remark="netdump.deadline=900" -- netdump.deadline=9', {}),
        ("netdump.drill", {}),
    ],
)
def test_what_the_command_line_wants(tmp_path: Path, line: str, changes: dict[str, Any]) -> None:
    assert heed(tmp_path, line) == PLAN._replace(**changes)


def test_before_there_is_a_command_line(tmp_path: Path) -> None:
    assert words.heed(PLAN, str(tmp_path / "absent")) == PLAN


def test_other_words_load_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netdump.client.config", None)  # importing it fails
    assert heed(tmp_path, "irqpoll netdump.level=1 netdump.remark=deadline") == PLAN


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", {}),
        ("console=hvc0 ip=192.0.2.7 root=/dev/sda1 a.=1 .b=1 . quiet", {}),
        ("ixgbe.allow_unsupported_sfp=1", {"ixgbe": ('allow_unsupported_sfp="1"',)}),
        ("snd-hda.a snd_hda.b.c=d.e", {"snd_hda": ("a", 'b.c="d.e"')}),
        ('a.b="c  d" "a.e=f g"', {"a": ('b="c  d"', 'e="f g"')}),
        ("a.b=1 -- a.c=2", {"a": ('b="1"',)}),
    ],
)
def test_what_modules_get_from_the_command_line(tmp_path: Path, line: str, options: dict[str, Any]) -> None:
    (tmp_path / "cmdline").write_text(line + "\n")
    assert words.module_options(str(tmp_path / "cmdline")) == options
    assert words.module_options(str(tmp_path / "absent")) == {}
