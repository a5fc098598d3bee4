"""`netdump renew`: a new certificate before the old one ends, for the holder of a bundle or for a collector."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from netdump.cli import reading
from netdump.cli.output import print_json
from netdump.cli.reading import CONFIG_NAME, CONFIG_VARIABLE, HOST_BUNDLE
from netdump.errors import ConfigMissingError, PkiError
from netdump.pki import Bundle, authority_certificate, collector_certificate, reissue_collector
from netdump.pki.certificates import age, validity
from netdump.pki.names import parse_collector_names
from netdump.pki.renew import renew

if TYPE_CHECKING:
    from netdump.pki import OwnCertificate


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


@click.command("renew", short_help="Renew the certificate in a bundle, or a collector's own.")
@click.option(
    "--config", type=click.Path(path_type=Path), envvar=CONFIG_VARIABLE,
    help=f"The bundle.  [default: ${CONFIG_VARIABLE}, then ~/.config/{CONFIG_NAME}, then {HOST_BUNDLE}]",
)  # fmt: skip
@click.option(
    "--collector",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Instead of a bundle's, renew the own certificate of the collector whose folder is DIR.",
)
@click.option(
    "--name",
    "names",
    metavar="HOST[,HOST…]",
    help="With --collector: all names and addresses that it is to bear, instead of those that it has.",
)
@click.option(
    "--if-older-than",
    callback=parse_share,
    metavar="PERCENT",
    default="0%",
    help="Do nothing before this share of its life is over.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: name, role, renewed, expires.")
@click.pass_context
def command(
    context: click.Context,
    *,
    config: Path | None,
    directory: Path | None,
    names: str | None,
    if_older_than: float,
    as_json: bool,
) -> None:
    """Renew the certificate in a bundle: same name, same role, a new key made on this machine.

    Works while the certificate is valid and not revoked; after that, enroll again with a new token. Everything else in
    the bundle stays as it is, and the file is replaced at once or not at all. Meant to run daily with --if-older-than
    50%, which then renews once a year.

    The older key stays good until its certificate ends. A capture image that was armed before carries the older bundle
    and goes on working; arm it again when convenient.

    With --collector: give a collector another certificate from its own authority, good for ten years or as long as the
    authority is, also after the older one has ended. Hosts and people need do nothing, and a collector that runs shows
    it within a minute, without a restart; its key stays. With --name it also bears other names: those that are not
    named any more are refused by whoever still dials them. JSON then has `names`, too.

    \b
    Examples:
      netdump renew --if-older-than 50%
      netdump renew --collector /srv/netdump
      netdump renew --collector /srv/netdump --name collector.example.com,dumps.example.com,192.0.2.7

    See also: netdump enroll, netdump revoke, netdump certificates.
    """
    if directory is not None:
        if context.get_parameter_source("config") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--config names a bundle, --collector a collector's folder: renew one at a time")
        _renew_collector(directory, names, if_older_than, as_json=as_json)
    elif names is not None:
        raise click.UsageError("--name goes with --collector: the name in a bundle stays; enroll to have another")
    else:
        _renew_bundle(config or usual_bundle(), if_older_than, as_json=as_json)


def _renew_bundle(config: Path, if_older_than: float, *, as_json: bool) -> None:
    renewed = renew(config, if_older_than=if_older_than)
    bundle = renewed or Bundle.load(config)
    expires = validity(bundle.certificate, f"the certificate in {config}").last
    if as_json:
        print_json(
            {"name": bundle.name, "role": str(bundle.role), "renewed": renewed is not None, "expires": _text(expires)}
        )
    elif renewed is None:
        click.echo(f"The certificate of {bundle.role} {bundle.name} is young enough: it ends on {expires:%Y-%m-%d}.")
    else:
        click.echo(f"Renewed the certificate of {bundle.role} {bundle.name} until {expires:%Y-%m-%d}.")


def _renew_collector(directory: Path, names: str | None, if_older_than: float, *, as_json: bool) -> None:
    authority = authority_certificate(directory)  # for the clear error of a folder that is not a collector's
    before = _collector_before(directory, needed=names is None)
    wanted = before.names if before is not None and names is None else _split(names or "")
    is_due = before is None or wanted != before.names or _is_due(before, if_older_than)
    if is_due:
        reissue_collector(directory, wanted)
    after = collector_certificate(directory)
    if as_json:
        fields = {"name": after.names[0], "names": list(after.names), "role": "collector", "renewed": is_due}
        print_json({**fields, "expires": _text(after.validity.last)})
        return
    which = f"certificate of collector {', '.join(after.names)}"
    if not is_due:
        click.echo(f"The {which} is young enough: it ends on {after.validity.last:%Y-%m-%d}.")
        return
    click.echo(
        f"Renewed the {which} until {after.validity.last:%Y-%m-%d}. A collector that runs shows it within a minute."
    )
    if after.validity.last == authority.validity.last:
        click.echo("It ends with the authority, which cannot be renewed.", err=True)
    gone = [name for name in before.names if name not in after.names] if before is not None else []
    if gone:
        click.echo(f"No longer in it: {', '.join(gone)}. Who still dials that refuses the collector.", err=True)


def _is_due(before: OwnCertificate, share: float) -> bool:
    """Whether that share of its life is over, or none of it has begun: it was made while the clock was ahead, and
    whoever looks at dates refuses it until then."""
    over = age(before.validity, datetime.now(UTC))
    return over < 0 or over >= share


def _collector_before(directory: Path, *, needed: bool) -> OwnCertificate | None:
    """The certificate to be replaced; None if it cannot be read and its names are not needed. Raises PkiError."""
    try:
        return collector_certificate(directory)
    except PkiError as error:
        if needed:
            raise PkiError(f"{error}; or name what a new one is to bear, with --name") from error
        return None


def _split(names: str) -> tuple[str, ...]:
    return tuple(str(name) for name in parse_collector_names([name.strip() for name in names.split(",")]))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
