"""`netdump certificates`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netdump.errors import NotACollectorError
from netdump.pki import Authority, Role, init_authority
from tests.pki import papers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell

YEAR = 365 * 86400


def test_nothing_issued(shell: Shell, folder: Path) -> None:
    fields = shell.run("certificates", folder, "--json").object
    assert (fields["certificates"], fields["damaged"]) == ([], [])
    header, authority, own = (line.split() for line in shell.run("certificates", folder).out.splitlines())
    assert header == ["ROLE", "NAME", "STATE", "ISSUED", "EXPIRES", "FINGERPRINT"]
    assert authority[:2] == ["authority", "netdump"]
    assert own[:2] == ["collector", fields["collector"]["names"][0]]
    for row, whose in ((authority, "authority"), (own, "collector")):
        assert row[-4:] == [fields[whose][key] for key in ("state", "issued", "expires", "fingerprint")]


def test_the_collectors_own_may_be_damaged(shell: Shell, folder: Path) -> None:
    papers.enrolled(Authority.load(folder), "web1")
    (folder / "pki" / "collector.crt").write_bytes(b"damaged")
    done = shell.run("certificates", folder, "--json")
    assert done.status == 0
    assert done.object["collector"] is None
    assert "netdump renew --collector" in done.object["damaged"][0]
    assert [row["name"] for row in done.object["certificates"]] == ["web1"]
    assert "netdump renew --collector" in done.err


def test_states_and_order(shell: Shell, tmp_path: Path) -> None:
    then = time.time() - 3 * YEAR
    init_authority(tmp_path, ["localhost"], now=then)
    authority = Authority.load(tmp_path)
    papers.enrolled(authority, "web1", now=then)
    papers.enrolled(authority, "web2", now=time.time() - 100)
    papers.enrolled(authority, "ann", Role.ANALYST)
    authority.revoke_name("web2", Role.HOST)
    rows = shell.run("certificates", tmp_path, "--json").object["certificates"]
    assert [(row["role"], row["name"], row["state"]) for row in rows] == [
        ("analyst", "ann", "valid"),
        ("host", "web2", "revoked"),
        ("host", "web1", "expired"),
    ]
    assert [row["revoked"] is not None for row in rows] == [False, True, False]
    table = shell.run("certificates", tmp_path).out.splitlines()
    assert [line.split()[:3] for line in table[3:]] == [[row["role"], row["name"], row["state"]] for row in rows]
    assert [line.split()[-1] for line in table[3:]] == [row["fingerprint"] for row in rows]


def test_damage_is_named_and_hides_nothing(shell: Shell, folder: Path) -> None:
    papers.enrolled(Authority.load(folder), "web1")
    (folder / "pki" / "issued" / ("ab" * 32 + ".1.json")).write_bytes(b"damaged")
    done = shell.run("certificates", folder)
    assert done.status == 0
    assert "web1" in done.out
    assert "abab" in done.err


def test_not_a_collector(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("certificates", tmp_path).status == NotACollectorError.exit_status


def test_those_who_do_not_renew(shell: Shell, tmp_path: Path) -> None:
    then = time.time() - YEAR - 300 * 86400
    init_authority(tmp_path, ["localhost"], now=then - 2 * YEAR)
    authority = Authority.load(tmp_path)
    for name, role, times in (
        ("renewed", Role.HOST, [then, time.time()]),
        ("asleep", Role.HOST, [then - 2 * YEAR, then]),
        ("gone", Role.HOST, [then - YEAR]),
        ("revoked", Role.HOST, [then]),
        ("renewed", Role.ANALYST, [then + 86400]),
    ):
        for when in times:
            papers.enrolled(authority, name, role, now=when)
    authority.revoke_name("revoked", Role.HOST)
    rows = shell.run("certificates", tmp_path, "--ending", "90d", "--json").object["certificates"]
    assert [(row["role"], row["name"], row["state"]) for row in rows] == [
        ("host", "gone", "expired"),
        ("host", "asleep", "valid"),
        ("analyst", "renewed", "valid"),
    ]
    table = shell.run("certificates", tmp_path, "--ending", "12h").out.splitlines()
    assert [line.split()[1] for line in table[3:]] == ["gone"]
    assert shell.run("certificates", tmp_path, "--ending", "soon").status == 2
