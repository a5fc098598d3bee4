"""Shared set-up of the client's tests: one authority for all, collectors that are stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from netdump.client.credentials import client_context
from tests.client.certificates import Authority, server_context
from tests.client.collector import FakeCollector, Manners

if TYPE_CHECKING:
    from pathlib import Path

StartCollector = Callable[..., FakeCollector]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def context(authority: Authority):  # type: ignore[no-untyped-def]
    """The client's TLS context."""
    return client_context(authority.credentials(), "client.toml")


@pytest.fixture
def start_collector(authority: Authority, tmp_path: Path) -> Iterator[StartCollector]:
    """Start a FakeCollector: script, then certificate, authority of its hosts and ALPN if they matter."""
    started: list[FakeCollector] = []

    def start(script: Sequence[Manners] | Callable[[int], Manners] = (), **tls: object) -> FakeCollector:
        pair = tls.pop("pair", None) or authority.collector()
        context = server_context(tmp_path, pair, tls.pop("authority", authority), **tls)  # type: ignore[arg-type]
        started.append(FakeCollector(context, script))
        return started[-1]

    yield start
    for one in started:
        one.stop()
