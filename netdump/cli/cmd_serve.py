"""`netdump serve`: run a collector."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netdump.server.audit import LineWriter, LogBridge, open_audit
from netdump.server.collector import Collector, Surroundings, run
from netdump.server.config import CONFIG_NAME, Config, load, parse_address
from netdump.server.notify import Notifier, inherited_sockets

if TYPE_CHECKING:
    from netdump.server.audit import Audit


@click.command("serve", short_help="Run a collector: take dumps in, give them out.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--ingest", metavar="ADDR:PORT", help="Where hosts send dumps to, instead of [ingest] listen.")
@click.option("--api", metavar="ADDR:PORT", help="Where the HTTPS API listens, instead of [api] listen.")
def command(directory: Path, ingest: str | None, api: str | None) -> None:
    """Run the collector whose folder is DIR, until SIGTERM or Ctrl-C.

    One line on standard output says when it is ready and where it listens; DIR/serve.json says the same while it runs.
    Who does what is logged on standard error, one JSON object a line. Port 0 lets the system choose.

    It may be killed at any time: every dump goes on where it was when the collector is back. SIGHUP ends it where it
    has a terminal, and changes nothing elsewhere: settings are read at the start. Under systemd it says when it is
    ready (Type=notify), serves a watchdog, and takes over listening sockets.

    \b
    Examples:
      netdump serve /srv/netdump
      netdump serve /srv/netdump --ingest 127.0.0.1:0 --api 127.0.0.1:0

    See also: netdump init, docs/config.md.
    """
    config = _overridden(load(directory / CONFIG_NAME), ingest, api)
    log = LineWriter(sys.stderr)
    try:
        audit = open_audit(log)
        _allow_files(audit)
        _route_logs(LogBridge(audit))
        collector = Collector(directory, config, Surroundings(audit, inherited_sockets(os.environ)))
        asyncio.run(run(collector, Notifier(os.environ), _announce))
    finally:
        log.close()


def _overridden(config: Config, ingest: str | None, api: str | None) -> Config:
    """The settings with the addresses of the command line. Raises AddressError."""
    if ingest is not None:
        config = dataclasses.replace(config, ingest=dataclasses.replace(config.ingest, listen=parse_address(ingest)))
    if api is not None:
        config = dataclasses.replace(config, api=dataclasses.replace(config.api, listen=parse_address(api)))
    return config


def _allow_files(audit: Audit) -> None:
    """Let as many files be open as the system allows: a shell's 1,024 are for programs that call select(2).

    It may refuse its own hard limit, where fs.nr_open was lowered since that was set: then go on with what there is.
    """
    had, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    except (OSError, ValueError) as error:  # ValueError: what Python makes of EPERM
        audit("open-files-limited", files=had, wanted=allowed, reason=str(error))


def _route_logs(bridge: logging.Handler) -> None:
    """Let everything that libraries log go where the collector's own events go."""
    root = logging.getLogger()
    root.handlers[:] = [bridge]
    root.setLevel(logging.WARNING)


def _announce(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
