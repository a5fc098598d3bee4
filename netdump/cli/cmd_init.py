"""`netdump init`: make a collector."""

from __future__ import annotations

import os
from pathlib import Path

import click

from netdump.errors import AlreadyExistsError, ServeError
from netdump.index.catalog import STORE_NAME
from netdump.index.index import Index
from netdump.index.place import NAME as INDEX_NAME
from netdump.pki import durable, init_authority
from netdump.pki.names import parse_collector_names
from netdump.server.config import CONFIG_NAME, default_text
from netdump.wire import PORT_API


@click.command("init", short_help="Make a collector: its authority, keys, settings and an empty store.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    metavar="HOST[,HOST…]",
    required=True,
    help="The names and addresses under which hosts and analysts reach the collector; its certificate bears them.",
)
def command(directory: Path, names: str) -> None:
    """Make a collector in DIR, a folder that is empty or does not exist yet.

    \b
    Examples:
      netdump init /srv/netdump --name collector.example.com
      netdump init /srv/netdump --name collector.example.com,192.0.2.7

    Its certificate gets other names, or a later end, with netdump renew --collector.

    See also: netdump serve, netdump token, netdump enroll, netdump renew.
    """
    wanted = [name.strip() for name in names.split(",")]
    parse_collector_names(wanted)  # before anything is made
    _claim(directory)
    init_authority(directory, wanted)
    try:
        (directory / STORE_NAME).mkdir(mode=0o700)
        durable.write(directory / CONFIG_NAME, default_text().encode())  # and with its name that of the store
    except OSError as error:
        raise ServeError(f"{directory} cannot be filled: {error.strerror}; empty it and try again") from error
    Index.open(directory / INDEX_NAME).close()
    _tell(directory, wanted)


def _claim(directory: Path) -> None:
    """Make the folder, for its owner alone. Raises AlreadyExistsError if there is anything in it, ServeError.

    Root gets no folder of another user: that user's collector could not read what root makes there.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(f"{directory} cannot be made: {error.strerror}; name a folder that can") from error
    try:
        if next(directory.iterdir(), None) is not None:
            what = "a collector already" if os.path.isdir(directory / STORE_NAME) else "not empty"
            raise AlreadyExistsError(f"{directory} is {what}: a collector needs a folder of its own; name another one")
        if (owner := directory.stat().st_uid) != os.geteuid():
            raise ServeError(f"{directory} belongs to another user (id {owner}), who must be the one to run this")
        directory.chmod(0o700)
    except OSError as error:
        raise ServeError(f"{directory} cannot be used: {error.strerror}; name a folder that can") from error


def _tell(directory: Path, names: list[str]) -> None:
    first = f"[{names[0]}]" if ":" in names[0] else names[0]
    steps = (
        (f"netdump serve {directory}", "runs it"),
        (f"netdump token {directory} --host NAME", "prints TOKEN, for one host"),
        (f"netdump enroll https://{first}:{PORT_API} --token TOKEN", "on that host: its key and certificate"),
        (f"netdump token {directory} --analyst NAME", "the same for a person who reads dumps"),
    )
    width = max(len(command) for command, _ in steps)
    click.echo(
        f"""\
Made a collector in {directory}:
  pki/          its certificate authority (keep ca.key secret, and a copy of it), its certificate for {", ".join(names)}
  config.toml   settings, all at their defaults
  dumps/        the store, empty
  index.sqlite  what is known about dumps, nothing yet

Next:"""
    )
    for command, purpose in steps:
        click.echo(f"  {command:<{width}}  {purpose}")
