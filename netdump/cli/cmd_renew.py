"""`netdump renew`: a new key and certificate before the old one ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from netdump.cli import reading
from netdump.cli.reading import CONFIG_NAME, CONFIG_VARIABLE, HOST_BUNDLE
from netdump.errors import ConfigMissingError
from netdump.pki import Bundle
from netdump.pki.certificates import validity
from netdump.pki.renew import renew


def parse_share(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return a share like 50% as a number of 0 to 0.99. Raises click.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,2})%?", value.strip(), re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a share: write 0% to 99%, as in 50%")
    return int(match[1]) / 100


def usual_bundle() -> Path:
    """The bundle of this user, else that of this host. Raises ConfigMissingError."""
    places = (reading.own_bundle(), reading.HOST_BUNDLE)
    for place in places:
        if not reading.is_missing(place):
            return place
    raise ConfigMissingError(
        f"there is no bundle: {CONFIG_VARIABLE} is not set, and neither {places[0]} nor {places[1]} exists; name it "
        "with --config, or make one with `netdump enroll`"
    )


@click.command("renew", short_help="Renew the certificate in a bundle.")
@click.option(
    "--config", type=click.Path(path_type=Path), envvar=CONFIG_VARIABLE,
    help=f"The bundle.  [default: ${CONFIG_VARIABLE}, then ~/.config/{CONFIG_NAME}, then {HOST_BUNDLE}]",
)  # fmt: skip
@click.option(
    "--if-older-than",
    callback=parse_share,
    metavar="PERCENT",
    default="0%",
    help="Do nothing before this share of its life is over.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, role, renewed, expires.")
def command(config: Path | None, if_older_than: float, as_json: bool) -> None:
    """Renew the certificate in a bundle: same name, same role, a new key made on this machine.

    Works while the certificate is valid and not revoked; after that, enroll again with a new token. Everything else in
    the bundle stays as it is, and the file is replaced at once or not at all. Meant to run daily with --if-older-than
    50%, which then renews once a year.

    The older key stays good until its certificate ends. A capture image that was armed before carries the older bundle
    and goes on working; arm it again when convenient.

    \b
    Example:
      netdump renew --if-older-than 50%

    See also: netdump enroll, netdump revoke.
    """
    config = config or usual_bundle()
    renewed = renew(config, if_older_than=if_older_than)
    bundle = renewed or Bundle.load(config)
    expires = validity(bundle.certificate, f"the certificate in {config}").last
    if as_json:
        fields = {
            "name": bundle.name,
            "role": str(bundle.role),
            "renewed": renewed is not None,
            "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        }
        click.echo(json.dumps(fields, indent=2))
    elif renewed is None:
        click.echo(f"The certificate of {bundle.role} {bundle.name} is young enough: it ends on {expires:%Y-%m-%d}.")
    else:
        click.echo(f"Renewed the certificate of {bundle.role} {bundle.name} until {expires:%Y-%m-%d}.")
