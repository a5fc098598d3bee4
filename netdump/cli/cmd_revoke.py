"""`netdump revoke`: end the trust in a key."""

from __future__ import annotations

from pathlib import Path

import click

from netdump.cli.holder import chosen_holder, holder_options
from netdump.cli.output import print_json, warn
from netdump.errors import NetdumpError, PkiError
from netdump.pki import Authority, Role
from netdump.pki.ledger import check_fingerprint


@click.command("revoke", short_help="Revoke the keys of a host or person.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@holder_options
@click.option("--fingerprint", metavar="HEX", help="One key, by its fingerprint (see netdump certificates).")
@click.option("--tokens", is_flag=True, help="Also make unused tokens of that name worthless.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: revoked (fingerprints), tokens (how many).")
def command(directory: Path, fingerprint: str | None, tokens: bool, as_json: bool, **names: str | None) -> None:
    """Revoke keys at the collector whose folder is DIR: whoever shows one is not let in any more.

    With a name, the keys of all certificates issued to it here so far are revoked; the name may enroll again later,
    with a new token. With --fingerprint, that one key is, whoever issued its certificate: another collector of this
    authority, or this one before its folder was lost. It holds from the next connection on, without a restart; a
    connection that is open goes on to its end. Dumps that were received stay.

    There is no way back: enroll again instead. Unused tokens of the name stay good unless --tokens is given.

    \b
    Examples:
      netdump revoke /srv/netdump --host web1
      netdump revoke /srv/netdump --analyst ann --tokens

    See also: netdump certificates, netdump token.
    """
    holder = chosen_holder(names)
    if (holder is None) == (fingerprint is None):
        raise click.UsageError(
            "say what to revoke: --host, --analyst or --operator NAME, or --fingerprint HEX, one of them"
        )
    if tokens and holder is None:
        raise click.UsageError("--tokens goes with a name: a fingerprint has no tokens")
    authority = Authority.load(directory)
    withdrawn = 0
    if holder is None:
        assert fingerprint is not None, "checked above"
        key = check_fingerprint(fingerprint)
        revoked = [key] if authority.revoke(key) else []
        if not authority.has_issued(key):
            warn(
                f"nobody was given a certificate of the key {key} here: it is revoked all the same; `netdump "
                "certificates` shows fingerprints of keys, which those of certificates (openssl x509) are not"
            )
    else:
        role, name = holder
        withdrawn = _withdraw_tokens(authority, role, name) if tokens else 0
        revoked = _revoke_name(authority, role, name, tokens_withdrawn=withdrawn)
    if as_json:
        print_json({"revoked": revoked, "tokens": withdrawn})
        return
    for key in revoked:
        click.echo(f"Revoked {key}.")
    if not revoked:
        click.echo("Nothing to revoke: it was done before." if not withdrawn else "No key to revoke.")
    if tokens:
        click.echo(f"Unused tokens withdrawn: {withdrawn}.")


def _withdraw_tokens(authority: Authority, role: Role, name: str) -> int:
    """Returns how many. Raises what withdrawing raises, having revoked the keys all the same: they may be stolen."""
    try:
        return authority.withdraw_tokens(name, role)
    except NetdumpError as error:
        count = len(authority.revoke_name(name, role))
        raise type(error)(
            f"{count} keys of {name} are revoked now, but tokens of that name may still be good: {error}"
        ) from error


def _revoke_name(authority: Authority, role: Role, name: str, *, tokens_withdrawn: int) -> list[str]:
    revoked = list(dict.fromkeys(each.fingerprint for each in authority.revoke_name(name, role)))
    if not revoked and not tokens_withdrawn:
        known = any((each.role, each.name) == (role, name) for each in authority.issued().certificates)
        if not known:
            raise PkiError(
                f"no certificate of {role} {name} is on record here: `netdump certificates` lists those that are; one "
                "of another collector, or from before a loss of this folder, is revoked by its --fingerprint"
            )
    return revoked
