from __future__ import annotations

import pytest

from netdump.client.address import Address, parse_address
from netdump.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("collector.example", "collector.example", 7461),
        ("collector.example:1", "collector.example", 1),
        ("10.0.0.7:65535", "10.0.0.7", 65535),
        ("[fd00::7]", "fd00::7", 7461),
        ("[fe80::1%eth0]:99", "fe80::1%eth0", 99),
        ("a_b-c.D", "a_b-c.D", 7461),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "a:-1",
        "a:1:2",
        "fd00::7",
        "[fd00::7",
        "[]:1",
        "[a b]:1",
        "[::1]x",
        "[fe80::1%\x1b[2J]:1",
        "ä.example",
        "a b:1",
        "a/b",
        "a" * 254,
        "a:٣",
        "a:" + "9" * 5000,
    ],
)
def test_not_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="not a collector's address"):
        parse_address(text)
