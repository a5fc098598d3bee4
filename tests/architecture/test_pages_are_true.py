"""What README.md and docs/ show can be typed: every command and option exists, every page that is linked is there."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from typing import TYPE_CHECKING

import click
import pytest

from netdump.cli import main as group
from netdump.client.arguments import make_parser as send_parser
from tests.architecture.client_page import PAGE, current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = PAGE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> Iterator[list[str]]:
    """Every `netdump …` line of the page's code blocks, as arguments, up to what the shell does with the output."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words[:1] == ["netdump"] and len(words) > 1:
                yield [*takewhile(lambda word: word not in {"|", ">"}, words[1:])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_can_be_typed(page: Path) -> None:
    context = click.Context(group.netdump_command, info_name="netdump")
    for name, *arguments in commands(page):
        if name == "send":
            send_parser().parse_args(arguments)
            continue
        command = group.netdump_command.get_command(context, name)
        assert command is not None, f"{page.name}: netdump {name}"
        try:
            command.make_context(name, list(arguments), parent=context, resilient_parsing=False)
        except click.BadParameter as error:
            said = f"{page.name}: netdump {name} {arguments}: {error.message}"
            assert re.search("does not exist|No such file", error.message), said  # noqa: PT017


def test_there_are_commands_to_type() -> None:
    assert len([line for page in PAGES for line in commands(page)]) > 20


def anchors(page: Path) -> set[str]:
    """What `#…` of a link may name: the headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def test_events_of_the_guide_are_logged() -> None:
    _, _, section = (ROOT / "docs" / "guide.md").read_text().partition("### What the collector's log says\n")
    rows = [re.findall(r"`([\w-]+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)]
    sources = "".join(path.read_text() for part in ("server", "cli") for path in (ROOT / "netdump" / part).glob("*.py"))
    assert len(rows) > 15
    assert rows == sorted(rows)
    assert [event for row in rows for event in row if f'"{event}"' not in sources] == []


def test_the_client_page_is_current() -> None:
    assert PAGE.read_text() == current(), "run: python -m tests.architecture.client_page > new && mv new docs/client.md"
