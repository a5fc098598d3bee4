"""URLs of collectors, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import ConfigError
from netdump.pki.endpoint import Endpoint
from netdump.wire import PORT_API


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://collector.example:7000", "collector.example", 7000),
        ("https://collector.example", "collector.example", PORT_API),
        ("https://collector.example/", "collector.example", PORT_API),
        ("HTTPS://Collector.Example:1/", "collector.example", 1),
        (" collector.example:7462\n", "collector.example", 7462),
        ("192.0.2.7:65535", "192.0.2.7", 65535),
        ("https://[2001:DB8::7]:7462", "2001:db8::7", 7462),
        ("[::1]", "::1", PORT_API),
    ],
)
def test_good(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert Endpoint.parse(endpoint.url) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "http://collector.example",
        "ftp://x",
        "https://collector.example:0",
        "https://c:65536",
        "https://c:",
        "https://c:1x",
        "https://c:7462/path",
        "https://user@c:7462",
        "https://c?x=1",
        "https://c#x",
        "::1",
        "2001:db8::7",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[c]:1",
        "[127.0.0.1]:1",
        "https://*.example",
        "c\x1b[31m",
        "https://c:٣",
        "https://c:" + "1" * 5000,
    ],
)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint.parse(text)
    assert str(caught.value).isprintable()


@given(st.text(max_size=80))
@settings(derandomize=True, deadline=None)
def test_any_text_is_an_endpoint_or_a_config_error(text: str) -> None:
    for candidate in (text, "https://" + text):
        try:
            endpoint = Endpoint.parse(candidate)
        except ConfigError:
            continue
        assert 1 <= endpoint.port <= 65535
        assert Endpoint.parse(endpoint.url) == endpoint


@pytest.mark.parametrize("host", ["fe80::1", "FE80::1", "fe80::1%eth0", "fe80::1%25eth0", "febf:0::1"])
def test_an_address_of_one_link(host: str) -> None:
    with pytest.raises(ConfigError, match="is an address of one link only"):
        Endpoint.parse(f"https://[{host}]:7462")
