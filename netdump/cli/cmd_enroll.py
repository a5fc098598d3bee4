"""`netdump enroll`: turn a token into a bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from netdump.cli import reading
from netdump.cli.output import print_json
from netdump.cli.reading import CONFIG_NAME, HOST_BUNDLE
from netdump.errors import ConfigMissingError
from netdump.pki import Role
from netdump.pki.certificates import validity
from netdump.pki.enroll import enroll

TOKEN_LINE_MAX = 4096  # characters read from standard input


@click.command("enroll", short_help="Get this machine or person a certificate, with a one-time token.")
@click.argument("url", metavar="URL")
@click.option(
    "--token",
    required=True,
    envvar="NETDUMP_TOKEN",
    show_envvar=True,
    help="The token; - reads it from standard input.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"The bundle to write.  [default: {HOST_BUNDLE} for a host, ~/.config/{CONFIG_NAME} for a person]",
)
@click.option(
    "--collector",
    "collectors",
    metavar="HOST:PORT",
    multiple=True,
    help="Where to send dumps; repeat it for more, tried in order.",
)
@click.option("--name", metavar="NAME", help="Refuse a token that is for another name.")
@click.option("--force", is_flag=True, help="Replace the bundle if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, role, bundle, collectors, api, expires.")
def command(
    url: str, token: str, out: Path | None, *, collectors: tuple[str, ...], name: str | None, force: bool, as_json: bool
) -> None:
    """Get a certificate from the collector whose API is at URL, and write the bundle that sending and reading need.

    The private key is made on this machine and stays here: the bundle holds it, with the certificate, the authority's
    certificate and the addresses of the collectors, readable by its owner only. Name and role are the token's. The
    collector is checked against the fingerprint inside the token before anything secret is sent. A token is good once:
    if this command fails after that, make a new one.

    Without --out the bundle is written where commands look for it. Only the collector knows the role, once the token is
    spent: so both places must be free, or --out or --force be given, and if the role's place cannot be written, as
    /etc by an ordinary user, the other one is taken.

    Dumps go to the addresses that the collector advertises, by default its ingest port at the host of URL; --collector
    says otherwise. A host whose bundle is lost enrolls again with a new token; its older key stays good until `netdump
    revoke` ends it: of a name, which ends all of its keys, before it enrolls again, or else by --fingerprint.

    \b
    Example:
      netdump enroll https://collector.example.com:7462 --token ndt1.…

    See also: netdump token, netdump renew, netdump send.
    """
    if token == "-":  # noqa: S105 - means standard input
        token = sys.stdin.readline(TOKEN_LINE_MAX)
    bundle = enroll(url, token, out or _places(), collectors=collectors, name=name, force=force)
    expires = validity(bundle.certificate, "the certificate").last
    if as_json:
        fields = {
            "name": bundle.name,
            "role": str(bundle.role),
            "bundle": bundle.origin,
            "collectors": list(bundle.collectors),
            "api": bundle.api.url,
            "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        }
        print_json(fields)
        return
    click.echo(
        f"Enrolled as {bundle.role} {bundle.name} until {expires:%Y-%m-%d}. "
        f"The bundle is {bundle.origin}; keep it secret."
    )
    if bundle.role is Role.HOST:
        click.echo(f"Dumps go to {', '.join(bundle.collectors)}: netdump send --config {bundle.origin}")
    elif _is_found(Path(bundle.origin)):
        click.echo("Reading commands find it there: netdump list")
    else:
        click.echo(f"Reading commands find it with NETDUMP_CONFIG={bundle.origin}")


def _places() -> dict[Role, Path]:
    """Where commands look for a bundle. Raises ConfigMissingError."""
    return {role: reading.HOST_BUNDLE if role is Role.HOST else reading.own_bundle() for role in Role}


def _is_found(path: Path) -> bool:
    try:
        return path == reading.own_bundle()
    except ConfigMissingError:
        return False
