"""wire.md says what registry.toml and the code say, and every requirement of it is shown by a vector or a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump import wire
from netdump.pages import PageState
from netdump.wire import _registry
from tests.protocol import vector_file
from tests.protocol.crafted import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Container

ROOT = Path(__file__).parents[2]
PROSE = (ROOT / "protocol" / "wire.md").read_text("utf-8")
TESTS = ROOT / "tests"


def section(title: str) -> str:
    """The text under the heading that begins so, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}[^\n]*\n(.*?)(?=^#|\Z)", PROSE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text: rows of cells, without head and rule."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|\n").split("|")] for row in block.splitlines()[2:]] for block in blocks
    ]


def rule(number: str) -> str:
    """The text of one requirement."""
    found = re.search(rf"^- \[{number}\] (.*?)(?=^- \[W-|^#|^\||\Z)", PROSE, re.MULTILINE | re.DOTALL)
    assert found, number
    return found[1]


RULES = re.findall(r"^- \[(W-\d\d)\]", PROSE, re.MULTILINE)


# Tables


@pytest.mark.parametrize(("place", "size"), [(0, wire.FRAME_HEADER_BYTES), (1, wire.FIELD_HEADER_BYTES)])
def test_headers(place: int, size: int) -> None:
    *head, value = tables(section("3. Frames"))[place]
    end = 0
    for row in head:
        assert int(row[0]) == end
        end += int(row[1])
    assert end == size == int(value[0])


def test_messages() -> None:
    (rows,) = tables(section("4. Messages"))
    present = {name: (int(number), sender) for number, name, sender, _ in rows}
    assert present == {name: (row["type"], row["sender"]) for name, row in REGISTRY["message"].items()}


@pytest.mark.parametrize("number", wire.MessageType)
def test_fields(number: wire.MessageType) -> None:
    text = section(f"4.{int(number)} {number.name}")
    fields = _registry.FIELDS[number]
    rows = tables(text)[0] if fields else []
    assert [(int(row[0]), row[1], row[2]) for row in rows] == [(field.id, field.name, field.kind) for field in fields]
    assert [not row[3].startswith("optional") for row in rows] == [field.required for field in fields]
    for row, field in zip(rows, fields, strict=True):
        assert is_range(row[3], field.allowed), field.name


def is_range(text: str, allowed: Container[int] | None) -> bool:
    """Whether a cell names the range of the code. A bool, because pytest would write out both ranges."""
    found = re.search(r"(\d[\d,^]*(?: MiB)?) \.\. (\d[\d,^]*(?: MiB)?)", text)
    if found:
        low, high = amount(found[1]), amount(found[2])
        if "power of two" in text:
            return allowed == {1 << bits for bits in range(64) if low <= 1 << bits <= high}
        return allowed == range(low, high + 1)
    if "0 or 1" in text or text.startswith(("1:", "0 stored")):
        return allowed is not None and [value for value in range(256) if value in allowed] == [0, 1]
    if text.startswith("0 .. image_bytes"):
        return allowed == range(wire.IMAGE_BYTES_MAX + 1)
    return allowed is None


def amount(text: str) -> int:
    """A number of the prose: 4,096, 2^52, 8 MiB."""
    plain = text.replace(",", "").removesuffix(" MiB")
    base, _, power = plain.partition("^")
    value: int = int(base) ** int(power or 1)
    return value << 20 if text.endswith(" MiB") else value


def test_ranges_are_read() -> None:
    """The check of ranges can fail."""
    assert not is_range("1 .. 2^52", range(1, 1 << 52))
    assert not is_range("4,096 .. 65,536, a power of two", range(4096, 65537))
    assert not is_range("0 or 1", range(3))
    assert not is_range("any", range(2))


def test_runs() -> None:
    rows = tables(section("4.6 CHUNK"))[1]
    states = {int(number): name for number, name in re.findall(r"(\d) (\w+)", rows[0][3])}
    assert states == {int(state): state.name.lower() for state in PageState}
    assert [(int(row[0]), int(row[1])) for row in rows] == [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8)]


def test_states() -> None:
    (rows,) = tables(section("5. States"))
    stated: list[tuple[str, str, str, str]] = []
    for state, sender, message, following in rows:
        for one_state in (
            [state] if state != "any but CLOSED" else [one.name for one in wire.State if one.name != "CLOSED"]
        ):
            for one_sender in [sender] if sender != "either" else [role.value for role in wire.Role]:
                stated += [(one_state, one_sender, message, following)]
    present = [
        (
            row.state.name,
            row.sender.value,
            row.message.name + ("" if row.headline is None else f", headline {int(row.headline)}"),
            row.following.name,
        )
        for row in wire.TRANSITIONS
    ]
    assert sorted(present) == sorted(stated)
    assert {state.name for state in wire.State} == {name for row in stated for name in (row[0], row[3])}


def test_codes() -> None:
    errors, _, declines = section("8. Codes").partition("DECLINE:")
    for text, codes in ((errors, wire.ErrorCode), (declines.partition("\n")[0], wire.DeclineCode)):
        assert {slug: int(number) for number, slug in re.findall(r"(\d+) `([a-z-]+)`", text)} == {
            code.slug: int(code) for code in codes
        }


def test_headline_fields_are_named() -> None:
    text = rule("W-41")
    assert not [name for name in REGISTRY["headline"] if f"`{name}`" not in text]


def test_domains() -> None:
    text = section("6. Digests")
    for name, value in REGISTRY["domain"].items():
        shown = value.replace("\n", "\\n")
        assert f'"{shown}"' in text + section("7. The dump id"), name
    assert '"netdump/1 id\\n"' in section("7. The dump id")


@pytest.mark.parametrize(
    ("number", "shown", "value"),
    [
        ("W-13", "65,536", wire.PAYLOAD_MAX),
        ("W-14", "64", wire.FIELDS_MAX),
        ("W-16", "1,024", wire.TEXT_MAX),
        ("W-46", "4,096", wire.CHUNK_RUNS_MAX),
        ("W-48", "1 MiB", wire.CHUNK_DATA_MAX),
        ("W-51", "1 MiB", wire.ZSTD_WINDOW_MAX),
        ("W-57", "4,096", wire.CHUNK_COST_FLOOR),
        ("W-75", "10", wire.OPENING_TIMEOUT),
        ("W-02", "netdump/1", wire.ALPN),
    ],
)
def test_numbers_in_rules(number: str, shown: str, value: int | str) -> None:
    assert shown in rule(number)
    assert value == (amount(shown) if isinstance(value, int) else shown)


# Requirements


def cited_by_vectors() -> set[str]:
    return {number for vector in vector_file.load() for number in vector.rules}


def cited_by_tests() -> set[str]:
    """What test modules cite, but for this one and the generator, whose citations stand in vectors."""
    cited: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        if path != Path(__file__):
            cited.update(re.findall(r"W-\d\d", path.read_text("utf-8")))
    return cited


def test_rules_are_numbered_once_and_in_order() -> None:
    assert sorted(set(RULES)) == RULES


def test_every_rule_is_shown() -> None:
    uncited = set(RULES) - cited_by_vectors() - cited_by_tests()
    assert not uncited


def test_what_is_cited_exists() -> None:
    assert not (cited_by_vectors() | cited_by_tests()) - set(RULES)
