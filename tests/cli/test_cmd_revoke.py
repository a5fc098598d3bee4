"""`netdump revoke`."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from netdump.errors import DamagedError, NotACollectorError, PkiError
from netdump.pki import Authority, Role, peer_identity
from tests.pki import papers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell


def key_of(authority: Authority, name: str, role: Role = Role.HOST) -> str:
    return peer_identity(papers.der(papers.enrolled(authority, name, role).certificate)).fingerprint


def test_a_name(shell: Shell, folder: Path) -> None:
    authority = Authority.load(folder)
    mine = {key_of(authority, "web1"), key_of(authority, "web1")}
    others = [key_of(authority, "web2"), key_of(authority, "web1", Role.ANALYST)]
    done = shell.run("revoke", folder, "--host", "web1", "--json")
    assert done.status == 0
    assert set(done.object["revoked"]) == mine
    assert all(authority.is_revoked(key) for key in mine)
    assert not any(authority.is_revoked(key) for key in others)
    again = shell.run("revoke", folder, "--host", "web1")
    assert (again.status, again.out) == (0, "Nothing to revoke: it was done before.\n")
    assert shell.run("revoke", folder, "--analyst", "web1").out == f"Revoked {others[1]}.\n"


def test_a_fingerprint(shell: Shell, folder: Path) -> None:
    authority = Authority.load(folder)
    key = key_of(authority, "web1")
    assert shell.run("revoke", folder, "--fingerprint", key.upper()).out == f"Revoked {key}.\n"
    assert authority.is_revoked(key)
    assert shell.run("revoke", folder, "--fingerprint", key, "--json").object == {"revoked": [], "tokens": 0}
    assert shell.run("revoke", folder, "--fingerprint", "abc").status == PkiError.exit_status


def test_a_fingerprint_of_another_collector_or_of_a_certificate(shell: Shell, folder: Path) -> None:
    authority = Authority.load(folder)
    bundle = papers.enrolled(authority, "web1")
    key = peer_identity(papers.der(bundle.certificate)).fingerprint
    assert not shell.run("revoke", folder, "--fingerprint", key).err
    other = hashlib.sha256(papers.der(bundle.certificate)).hexdigest()
    done = shell.run("revoke", folder, "--fingerprint", other)
    assert (done.status, done.out) == (0, f"Revoked {other}.\n")
    assert "nobody was given a certificate of the key" in done.err
    assert authority.is_revoked(other)


def test_tokens_stay_good_unless_told(shell: Shell, folder: Path) -> None:
    authority = Authority.load(folder)
    key_of(authority, "web1")
    token = papers.secret_of(authority.make_token("web1", Role.HOST))
    shell.run("revoke", folder, "--host", "web1")
    assert authority._tokens.find(token, int(time.time()))
    done = shell.run("revoke", folder, "--host", "web1", "--tokens")
    assert done.status == 0
    assert "Unused tokens withdrawn: 1." in done.out


def test_a_damaged_token_keeps_no_key_good(shell: Shell, folder: Path) -> None:
    authority = Authority.load(folder)
    key = key_of(authority, "web1")
    authority.make_token("web2", Role.HOST)
    (token,) = (folder / "pki" / "tokens").glob("*.json")
    token.write_bytes(token.read_bytes()[:-9])
    done = shell.run("revoke", folder, "--host", "web1", "--tokens")
    assert done.status == DamagedError.exit_status
    assert "1 keys of web1 are revoked now, but tokens" in done.err
    assert str(token) in done.err
    assert authority.is_revoked(key)


def test_a_name_that_never_was(shell: Shell, folder: Path) -> None:
    done = shell.run("revoke", folder, "--host", "web1")
    assert done.status == PkiError.exit_status
    assert "no certificate of host web1 is on record here" in done.err
    assert "--fingerprint" in done.err
    Authority.load(folder).make_token("web1", Role.HOST)
    done = shell.run("revoke", folder, "--host", "web1", "--tokens")
    assert (done.status, done.out) == (0, "No key to revoke.\nUnused tokens withdrawn: 1.\n")


def test_what_to_revoke(shell: Shell, folder: Path) -> None:
    for arguments in (
        [],
        ["--host", "a", "--operator", "b"],
        ["--host", "a", "--fingerprint", "ab" * 32],
        ["--fingerprint", "ab" * 32, "--tokens"],
    ):
        assert shell.run("revoke", folder, *arguments).status == 2
    assert not list((folder / "pki" / "revoked").iterdir())


def test_not_a_collector(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("revoke", tmp_path, "--host", "a").status == NotACollectorError.exit_status
