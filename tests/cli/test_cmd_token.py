"""`netdump token`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import pytest

from netdump.cli.cmd_token import command, parse_ttl
from netdump.errors import BadNameError, CertificateError, NotACollectorError
from netdump.pki import Authority, Role
from netdump.pki.certificates import new_key
from netdump.pki.request import make_request
from netdump.pki.token import parse_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell

CONTEXT = click.Context(command)


def test_the_token_alone_is_on_standard_output(shell: Shell, folder: Path) -> None:
    done = shell.run("token", folder, "--host", "web1")
    assert done.status == 0
    assert done.out.count("\n") == 1
    authority = Authority.load(folder)
    assert parse_token(done.out).ca_digest == authority.ca_fingerprint
    issue = authority.redeem(parse_token(done.out).secret_text(), make_request(new_key()))
    assert (issue.role, issue.name) == (Role.HOST, "web1")
    assert "netdump enroll https://localhost:7462 --token TOKEN" in done.err
    assert done.out.strip() not in done.err


def test_the_hint_knows_the_port(shell: Shell, folder: Path) -> None:
    (folder / "config.toml").write_text('[api]\nlisten = "*:8443"\n')
    assert "https://localhost:8443 " in shell.run("token", folder, "--host", "web1").err
    for text in ('[api]\nlisten = "*:0"\n', "nonsense"):
        (folder / "config.toml").write_text(text)
        assert "https://localhost:7462 " in shell.run("token", folder, "--host", "web1").err


def test_the_hint_knows_where_a_collector_really_listens(shell: Shell, folder: Path) -> None:
    """`netdump serve --api` and sockets of systemd win over the settings; a file that a kill left behind does not."""
    (folder / "config.toml").write_text('[api]\nlisten = "*:8443"\n')
    status = folder / "serve.json"
    status.write_text(json.dumps({"pid": os.getpid(), "ingest": "[::]:7461", "api": "[::]:9443"}))
    assert "https://localhost:9443 " in shell.run("token", folder, "--host", "web1").err
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()
    dead = json.dumps({"pid": ended.pid, "ingest": "[::]:7461", "api": "[::]:9443"})
    for left in (dead, "", "{}", "[]", '{"pid": 1}', json.dumps({"pid": os.getpid(), "api": "here"})):
        status.write_text(left)
        assert "https://localhost:8443 " in shell.run("token", folder, "--host", "web1").err


@pytest.mark.parametrize("role", list(Role))
def test_json(shell: Shell, folder: Path, role: Role) -> None:
    before = int(time.time())
    fields = shell.run("token", folder, f"--{role}", "ann", "--ttl", "90m", "--json").object
    assert (fields["name"], fields["role"]) == ("ann", role.value)
    expires = datetime.strptime(fields["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    assert before + 5400 <= expires <= time.time() + 5400
    parse_token(fields["token"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("60s", 60), ("1m", 60), ("24h", 86400), ("30d", 30 * 86400), ("4w", 28 * 86400), (" 90m ", 5400)],
)
def test_times(text: str, seconds: int) -> None:
    assert parse_ttl(CONTEXT, command.params[0], text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "-1h", "1.5h", "1 h", "24H", "59", "0", "31d", "5w", "9999999999", "٣h", "1h1m"]
)
def test_bad_times(shell: Shell, folder: Path, text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_ttl(CONTEXT, command.params[0], text)
    assert shell.run("token", folder, "--host", "web1", f"--ttl={text}").status == 2
    assert not list((folder / "pki" / "tokens").iterdir())


def test_many_hosts(shell: Shell, folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "rack7"
    names.write_bytes(b"\xef\xbb\xbfweb1\r\n\n# the new ones\n  web2  \nweb1\n")
    done = shell.run("token", folder, "--hosts", names)
    lines = [line.split(" ") for line in done.out.splitlines()]
    assert [name for name, _ in lines] == ["web1", "web2"]
    authority = Authority.load(folder)
    for name, token in lines:
        issue = authority.redeem(parse_token(token).secret_text(), make_request(new_key()))
        assert (issue.role, issue.name) == (Role.HOST, name)
        assert token not in done.err
    assert "each for one of 2 hosts" in done.err
    objects = [json.loads(line) for line in shell.run("token", folder, "--hosts", names, "--json").out.splitlines()]
    assert [each["name"] for each in objects] == ["web1", "web2"]
    parse_token(objects[1]["token"])


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 2), (b"# nobody\n", 2), (b"web1\nweb 2\n", BadNameError.exit_status), (b"\xff\n", BadNameError.exit_status)],
)
def test_a_list_of_hosts_that_is_none_makes_no_token(
    shell: Shell, folder: Path, tmp_path: Path, content: bytes, status: int
) -> None:
    names = tmp_path / "names"
    names.write_bytes(content)
    assert shell.run("token", folder, "--hosts", names).status == status
    assert not list((folder / "pki" / "tokens").iterdir())


def test_so_many_hosts_and_no_more(shell: Shell, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.cli.cmd_token.NAMES_MAX", 3)
    names = tmp_path / "names"
    names.write_text("a\nb\nc\n")
    assert shell.run("token", folder, "--hosts", names).out.count("\n") == 3
    names.write_text("# rack 7\na\nb\nb\n\nc\n")
    assert shell.run("token", folder, "--hosts", names).out.count("\n") == 3, "names are counted, not lines"
    names.write_text("a\nb\nc\nd\n")
    assert shell.run("token", folder, "--hosts", names).status == 2


def test_for_whom(shell: Shell, folder: Path) -> None:
    assert shell.run("token", folder).status == 2
    assert shell.run("token", folder, "--host", "a", "--analyst", "b").status == 2
    assert shell.run("token", folder, "--host", "a", "--hosts", os.devnull).status == 2


def test_no_token_that_nobody_learns_how_to_use(shell: Shell, folder: Path) -> None:
    (folder / "pki/collector.crt").write_bytes(b"none")
    done = shell.run("token", folder, "--host", "a")
    assert (done.status, done.out) == (CertificateError.exit_status, "")
    assert "collector.crt" in done.err
    assert shell.run("token", folder, "--host", "a", "--json").status == 0, "which does not say where to go"


def test_errors(shell: Shell, folder: Path, tmp_path: Path) -> None:
    assert shell.run("token", folder, "--host", "a/b").status == BadNameError.exit_status
    assert shell.run("token", tmp_path, "--host", "a").status == NotACollectorError.exit_status
