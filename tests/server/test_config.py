"""config.toml: what is accepted, what is refused and how, and that the pages show what the code does."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump import wire
from netdump.errors import AddressError, ConfigError, ConfigMissingError
from netdump.server.config import (
    SECTIONS,
    Address,
    Config,
    build,
    default_text,
    iter_keys,
    load,
    parse_address,
)

ROOT = Path(__file__).parents[2]


def test_defaults_are_valid_and_the_generated_file_means_them(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(default_text())
    assert load(path) == Config() == build({})
    # Every commented-out line, when put in force, is accepted and changes nothing.
    live = re.sub(r"(?m)^#(\w+ = )", r"\1", default_text())
    assert len(tomllib.loads(live)["limits"]) == len(dataclasses.fields(SECTIONS["limits"]))
    path.write_text(live)
    assert load(path) == Config()


def test_the_page_names_every_key_with_default_range_and_meaning() -> None:
    page = (ROOT / "docs" / "config.md").read_text()
    rows = {
        (section, *(cell.strip() for cell in row.strip().strip("|").split(" | ")))
        for section, table in re.findall(r"## \[(\w+)\]\n(.*?)(?=\n## |\Z)", page, re.DOTALL)
        for row in table.splitlines()
        if row.startswith("| `")
    }
    expected = {(key.section, f"`{key.name}`", f"`{key.default}`", key.range, key.doc) for key in iter_keys()}
    assert rows == expected


def test_values_are_taken() -> None:
    config = build(
        {
            "ingest": {
                "listen": "[::1]:0",
                "advertise": ["a.example:7461", "[2001:db8::1]:99"],
                "credit_bytes": 2 << 20,
            },
            "store": {"keep_vmcore": False, "publish_bytes": 1 << 20},
        }
    )
    assert config.ingest.listen == Address("::1", 0)
    assert config.ingest.advertise == (Address("a.example", 7461), Address("2001:db8::1", 99))
    assert not config.store.keep_vmcore
    assert config.api.listen == Address("", wire.PORT_API)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"limit": {}}, r"unknown section \[limit\]; did you mean limits\?"),
        ({"zzz": {}}, "known are: ingest, api"),
        ({"limits": {"active_dump": 3}}, r"unknown setting active_dump in \[limits\]; did you mean active_dumps\?"),
        ({"limits": 3}, r"write \[limits\]"),
        ({"limits": {"connections": 0}}, "between 1 and 65536, not 0"),
        ({"limits": {"connections": -1}}, "between 1 and 65536"),
        ({"limits": {"connections": 65537}}, "between 1 and 65536"),
        ({"limits": {"connections": "5"}}, "whole number"),
        ({"limits": {"connections": 5.0}}, "whole number"),
        ({"limits": {"connections": True}}, "whole number"),
        ({"store": {"keep_vmcore": 1}}, "true or false"),
        ({"ingest": {"listen": 7461}}, "text in quotes"),
        ({"ingest": {"listen": "7461"}}, "is not an address"),
        ({"ingest": {"advertise": "a:1"}}, "list of at most 16"),
        ({"ingest": {"advertise": ["a:1"] * 17}}, "list of at most 16"),
        ({"ingest": {"advertise": ["*:7461"]}}, "must name a host"),
        ({"ingest": {"advertise": ["a:0"]}}, "must name a host and a port"),
        ({"ingest": {"keepalive_s": 11}}, r"idle_s \(30\) must be at least 3"),
        ({"space": {"min_free_bytes": 5 << 30}}, "admit_free"),
        ({"store": {"publish_bytes": 64 << 20}}, "publish_bytes must not exceed"),
        ({"limits": {"connections": 191}}, r"waiting_dumps \(192\) must not exceed connections \(191\)"),
    ],
)
def test_refused(document: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        build(document, "x.toml")
    assert str(caught.value).startswith("x.toml: ")


def test_zero_is_never_unlimited() -> None:
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            if isinstance(item.default, int) and not isinstance(item.default, bool):
                assert item.metadata["low"] > 0 or "0 leaves it to the bytes" in item.metadata["doc"]
                with pytest.raises(ConfigError):
                    build({section: {item.name: item.metadata["low"] - 1}})
                with pytest.raises(ConfigError):
                    build({section: {item.name: item.metadata["high"] + 1}})


def test_a_file_of_an_editor_that_marks_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + default_text().replace("\n", "\r\n").encode())
    assert load(path) == Config()


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigMissingError, match="netdump init"):
        load(path)
    (tmp_path / "pki").mkdir()
    with pytest.raises(ConfigMissingError, match="is missing: put it back, or make an empty one"):
        load(path)
    path.touch()
    assert load(path) == Config()
    path.write_bytes(b"[limits\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("*:65535", Address("", 65535)),
        ("[::]:7461", Address("::", 7461)),
        ("c.example:1", Address("c.example", 1)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":1",
        "a",
        "a:",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:1 ",
        "::1:7",
        "[::1]",
        "[a]:1",
        "a b:1",
        "ä:1",
        "a:٣",
        "a" * 300 + ":1",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def test_addresses_that_only_look_like_those_of_one_link() -> None:
    for text in ("[fec0::1]:7461", "[fd00::fe80]:7461", "fe80:7461"):
        assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["[fe80::1%eth0]:7461", "[FE80::1]:7461", "[febf::1]:7461", "[fe80:0::1]:7461", "[::1%lo]:7461"]
)
def test_addresses_of_one_link_are_refused(text: str) -> None:
    """Hosts are not enrolled with them, nor do capture kernels dial them."""
    with pytest.raises(AddressError, match="of one link only: write one that is routed"):
        parse_address(text)


@given(st.text(max_size=40))
@settings(derandomize=True, deadline=None)
def test_an_address_is_read_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address
