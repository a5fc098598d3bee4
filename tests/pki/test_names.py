"""Names: strict, whatever comes; and strangers' text is harmless on a terminal."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BadNameError
from netdump.pki.names import (
    COLLECTOR_NAMES_MAX,
    check_name,
    parse_collector_name,
    parse_collector_names,
    printable,
)


@pytest.mark.parametrize("name", ["web1", "a", "_x", "DB-7.example.com", "10.0.0.1", "a_b", "x" * 253])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "-a",
        "a-",
        ".a",
        "a.",
        "a b",
        "a/b",
        "../etc",
        "a\n",
        "a\0",
        "a:b",
        "fe80::1",
        "ä",
        "а",
        "a" * 254,
        "web1 ",
        "%41",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(BadNameError) as caught:
        check_name(name)
    assert str(caught.value).isprintable()


@given(st.text(max_size=300))
@settings(derandomize=True, deadline=None)
def test_what_passes_is_harmless(name: str) -> None:
    try:
        passed = check_name(name)
    except BadNameError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,253}", passed)


@given(st.text(max_size=3000))
@settings(derandomize=True, deadline=None)
def test_printable_is_printable(text: str) -> None:
    shown = printable(text, 100)
    assert shown.isprintable()
    if text.isprintable() and len(text) <= 100:
        assert shown == text


def test_printable_shows_what_it_hides() -> None:
    assert printable("a\x1b[31m\u202eb\ud800") == "a\\x1b[31m\\u202eb\\ud800"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Collector.Example.COM", "collector.example.com"),
        ("localhost", "localhost"),
        ("collector_1", "collector_1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("192.0.2.7", ipaddress.ip_address("192.0.2.7")),
        ("2001:DB8::7", ipaddress.ip_address("2001:db8::7")),
        ("::1", ipaddress.ip_address("::1")),
    ],
)
def test_good_collector_names(text: str, name: object) -> None:
    assert parse_collector_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        "*.example.com",
        "a..b",
        "-a.example",
        "a-.example",
        "999.1.1.1",
        "1.2.3",
        "127.1",
        "01.2.3.4",
        "host:7461",
        "[::1]",
        "fe80::1%eth0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "bücher.example",
        "a b",
        "a\n",
        "x" * 64 + ".example",
        "a." * 127 + "aa",
    ],
)
def test_bad_collector_names(text: str) -> None:
    with pytest.raises(BadNameError) as caught:
        parse_collector_name(text)
    assert str(caught.value).isprintable()


def test_collector_names_keep_their_order_and_lose_doubles() -> None:
    names = parse_collector_names(["b.example", "a.example", "B.EXAMPLE", "::1", "0:0:0:0:0:0:0:1"])
    assert names == ("b.example", "a.example", ipaddress.ip_address("::1"))


def test_number_of_collector_names_is_bounded() -> None:
    assert len(parse_collector_names([f"c{i}" for i in range(COLLECTOR_NAMES_MAX)])) == COLLECTOR_NAMES_MAX
    for names in ([], [f"c{i}" for i in range(COLLECTOR_NAMES_MAX + 1)]):
        with pytest.raises(BadNameError):
            parse_collector_names(names)
