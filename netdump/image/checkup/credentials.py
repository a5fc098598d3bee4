"""Whether the bundle is good: readable, secret, of a host, and its certificate in its dates.

Owns how early a certificate's end is told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from netdump.client.config import load_config
from netdump.client.credentials import client_context
from netdump.errors import ConfigMissingError, DependencyError, NetdumpError
from netdump.image.checkup.finding import ok, problem, unknown, warning
from netdump.image.checkup.machine import is_hidden
from netdump.pki.certificates import validity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from netdump.client.config import Config
    from netdump.image.checkup.finding import Finding
    from netdump.pki.certificates import Validity

TOPIC_BUNDLE = "bundle"
TOPIC_CERTIFICATE = "certificate"
TOPIC_AUTHORITY = "authority"
WARN_DAYS = 30


def read_bundle(path: Path, words: Mapping[str, str]) -> tuple[Config | None, Finding]:
    """Read the bundle as the client does, and say how that went. words: of the capture kernel's command line."""
    try:
        config = load_config(str(path), words, {})
        client_context(config.credentials, str(path))
    except ConfigMissingError as error:
        return None, problem(TOPIC_BUNDLE, str(error), "enroll this host: `netdump enroll URL --token TOKEN`")
    except NetdumpError as error:
        if is_hidden(path):
            return None, unknown(TOPIC_BUNDLE, f"{path} is for root's eyes only", "run this as root")
        return None, problem(TOPIC_BUNDLE, str(error), "mend the file, or enroll this host again")
    where = ", ".join(map(str, config.collectors))
    if path.stat().st_mode & 0o077:
        fact = f"{path} holds a private key, and others may read it"
        return config, problem(TOPIC_BUNDLE, fact, f"chmod 600 {path}; if somebody may have read it, enroll again")
    return config, ok(TOPIC_BUNDLE, f"{path}: host {config.name or 'without a name'}, sends to {where}")


def check_dates(config: Config, now: float, again: str) -> Iterator[Finding]:
    """The dates of the certificates. now: seconds since 1970. again: what brings a bundle to the capture kernel."""
    moment = datetime.fromtimestamp(now, UTC)
    for topic, pem, remedy in (
        (TOPIC_CERTIFICATE, config.credentials.certificate, f"run `netdump renew`, then `{again}`"),
        (TOPIC_AUTHORITY, config.credentials.ca, "ask the collector's operator for a new authority, and enroll again"),
    ):
        try:
            dates = validity(pem, f"the {topic} of the bundle")
        except DependencyError as error:
            yield unknown(topic, str(error), "run netdump from there")
            continue
        except NetdumpError as error:
            yield problem(topic, str(error), "enroll this host again")
            continue
        yield _judge(topic, dates, moment, remedy)


def _judge(topic: str, dates: Validity, now: datetime, remedy: str) -> Finding:
    first, last = dates
    left = (last - now).days
    if now < first:
        fact = f"not valid before {first:%Y-%m-%d}, and this clock says {now:%Y-%m-%d}"
        return problem(topic, fact, "set the clock")
    if now > last:
        return problem(topic, f"ended on {last:%Y-%m-%d}", "enroll this host again with a new token")
    if left < WARN_DAYS:
        return warning(topic, f"ends in {left} days, on {last:%Y-%m-%d}", remedy)
    return ok(topic, f"good until {last:%Y-%m-%d}")
