"""Whether each collector can be reached, as the capture kernel will reach it, and whether the clocks agree.

Owns two questions. To the ingest port: a full TLS handshake with both certificates, as the client makes it, and HELLO
for a dump of the largest size that can be said, which collectors decline (at their default settings) without keeping
anything; one that does not accept the host says so instead. To the API: what time it is.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from netdump import __version__
from netdump.client.credentials import client_context
from netdump.client.link import open_link
from netdump.client.resolve import Resolver
from netdump.errors import ImpostorError, NetdumpError, ProtocolError, RefusedError, UnreachableError
from netdump.image.checkup.finding import ok, problem, unknown, warning
from netdump.pki.bundle import Bundle
from netdump.pki.https import collector_time
from netdump.wire import IMAGE_BYTES_MAX, PAGE_BYTES_MIN, Connection, Defer, Error, ErrorCode, Hello, Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.client.address import Address
    from netdump.client.config import Config
    from netdump.client.link import Link
    from netdump.image.checkup.finding import Finding

TOPIC_COLLECTOR = "collector"
TOPIC_CLOCK = "clock"
ANSWER_SECONDS = 20.0  # for the answer to HELLO
AGENT = f"netdump-doctor/{__version__}"  # tells the collector's operator what the HELLO was for
SLOW_SECONDS = 2.0  # for a connection: less is nothing to a dump
SKEW_SECONDS = 300.0  # beyond this, times of crashes mislead; certificates are backdated by a day


def check_collectors(config: Config, path: Path, again: str) -> Iterator[Finding]:
    """Visit every collector, in their order. path: the bundle, for messages. again: as of credentials.check_dates."""
    context = client_context(config.credentials, str(path))
    settings = config.settings
    answering = 0
    findings = []
    for address in config.collectors:
        started = time.monotonic()
        resolver = Resolver()
        try:
            link = open_link(
                address,
                context,
                resolver,
                connect_timeout=settings.connect_timeout,
                dns_timeout=settings.dns_timeout,
            )
            took = time.monotonic() - started
            _greet(link, address)
            endpoints = resolver.lookup(address, settings.dns_timeout)
        except NetdumpError as error:
            findings.append(problem(f"{TOPIC_COLLECTOR} {address}", str(error), _remedy(error, again)))
        else:
            answering += 1
            mute = [str(endpoint) for endpoint in endpoints if resolver.has_failed(endpoint)]
            findings.append(_welcome(f"{TOPIC_COLLECTOR} {address}", took, mute))
    for finding in findings:
        # One that answers is enough for a dump; the others are there for the day when it does not.
        is_spare = answering and finding.remedy
        yield warning(finding.topic, finding.fact, finding.remedy) if is_spare else finding


def _welcome(topic: str, took: float, mute: list[str]) -> Finding:
    """A collector that takes our dumps. took: seconds until it was connected. mute: addresses that do not answer."""
    fact = f"takes this host's dumps; connected in {took * 1000:.0f} ms"
    if not mute or took < SLOW_SECONDS:
        return ok(topic, fact)
    waited = f"{', '.join(mute)} of this name was tried before, in vain"
    return warning(topic, f"{fact}: {waited}", "mend the way there, or take that address out of the name")


def check_clock(path: Path, now: float) -> Iterator[Finding]:
    """Compare this machine's clock with the collector's. now: seconds since 1970."""
    try:
        bundle = Bundle.load(path)
        started = time.monotonic()
        theirs = collector_time(bundle.api, bundle.ca)
        waited = time.monotonic() - started
    except NetdumpError as error:
        yield unknown(TOPIC_CLOCK, f"the collector's API does not tell its time: {error}", "see to the collector first")
        return
    off = now + waited / 2 - theirs
    if abs(off) > SKEW_SECONDS + waited:
        where = "ahead of" if off > 0 else "behind"
        yield problem(
            TOPIC_CLOCK, f"{abs(off):,.0f} s {where} the collector's",
            "set the clock of whichever is wrong (chrony, systemd-timesyncd): certificates and times depend on it",
        )  # fmt: skip
    else:
        yield ok(TOPIC_CLOCK, f"within {max(1, round(abs(off)))} s of the collector's")


def _greet(link: Link, address: Address) -> None:
    """Offer a dump that nobody takes, and hear out what the collector may have against us. Raises NetdumpError."""
    core = Connection(Role.CLIENT, time.monotonic())
    until = time.monotonic() + ANSWER_SECONDS
    hello = Hello(os.urandom(16), IMAGE_BYTES_MAX, PAGE_BYTES_MIN, 0, AGENT, drill=True)
    try:
        link.send(core.send(hello, time.monotonic()))
        while (answer := core.next_event()) is None:
            if time.monotonic() > until:
                raise UnreachableError(f"{address}: connected, but no answer within {ANSWER_SECONDS:g} s")
            if link.eof:
                raise UnreachableError(f"{address}: the collector closed the connection without a word")
            core.receive_data(link.exchange(until - time.monotonic()), time.monotonic())
    finally:
        link.close()
    if isinstance(answer, Error):
        reason = answer.text or answer.code.slug
        if answer.code is ErrorCode.NOT_ALLOWED:
            raise RefusedError(f"{address} does not let this host in: {reason}")
        raise UnreachableError(f"{address} answers, but cannot take dumps now: {reason}")
    if isinstance(answer, Defer):
        raise UnreachableError(f"{address} is busy and asks to come back in {answer.seconds} s: {answer.text}")


def _remedy(error: NetdumpError, again: str) -> str:
    match error:
        case RefusedError():
            return f"enroll this host again with a new token, then `{again}`"
        case ImpostorError() | ProtocolError():
            return "check the collectors' addresses; if the collector was set up anew, enroll this host again"
        case _:
            return "start the collector (`netdump serve`), open its port, or mend the route and the name"
