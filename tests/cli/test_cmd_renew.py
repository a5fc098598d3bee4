"""`netdump renew`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import pytest

from netdump.cli import reading
from netdump.cli.cmd_renew import command, parse_share, usual_bundle
from netdump.errors import BadNameError, ConfigMissingError, NotACollectorError, PkiError, RevokedError
from netdump.pki import Authority, Bundle, Role, collector_certificate, init_authority, reissue_collector
from netdump.pki.enroll import enroll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.pki.api import Api

CONTEXT = click.Context(command)


@pytest.fixture
def bundle(api: Api, tmp_path: Path) -> Path:
    path = tmp_path / "client.toml"
    enroll(api.url, api.authority.make_token("web1", Role.HOST), path)
    return path


def test_renewing(shell: Shell, bundle: Path) -> None:
    before = Bundle.load(bundle)
    done = shell.run("renew", "--config", bundle)
    assert done.status == 0
    assert "Renewed the certificate of host web1 until" in done.out
    assert Bundle.load(bundle).key != before.key


def test_young_enough(shell: Shell, bundle: Path) -> None:
    before = bundle.read_bytes()
    done = shell.run("renew", "--config", bundle, "--if-older-than", "50%")
    assert (done.status, bundle.read_bytes()) == (0, before)
    assert "young enough" in done.out


def test_json_and_the_environment(shell: Shell, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETDUMP_CONFIG", str(bundle))
    for arguments, renewed in ((["--if-older-than", "50"], False), ([], True)):
        fields = shell.run("renew", *arguments, "--json").object
        assert fields.pop("expires").endswith("Z")
        assert fields == {"name": "web1", "role": "host", "renewed": renewed}


def test_the_bundle_is_looked_for_in_order(
    shell: Shell, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETDUMP_CONFIG", raising=False)
    monkeypatch.setattr(reading, "HOST_BUNDLE", tmp_path / "etc.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = reading.own_bundle()
    done = shell.run("renew")
    assert done.status == ConfigMissingError.exit_status
    for place in (str(own), str(tmp_path / "etc.toml"), "NETDUMP_CONFIG"):
        assert place in done.err
    bundle.rename(reading.HOST_BUNDLE)
    assert usual_bundle() == reading.HOST_BUNDLE
    assert shell.run("renew").status == 0
    own.parent.mkdir()
    own.touch()
    assert usual_bundle() == own


def test_errors(shell: Shell, api: Api, bundle: Path, tmp_path: Path) -> None:
    assert shell.run("renew", "--config", tmp_path / "nothing").status == ConfigMissingError.exit_status
    api.authority.revoke_name("web1", Role.HOST)
    assert shell.run("renew", "--config", bundle).status == RevokedError.exit_status


def test_a_collectors_own(shell: Shell, folder: Path) -> None:
    before = collector_certificate(folder)
    done = shell.run("renew", "--collector", folder, "--if-older-than", "50%")
    assert (done.status, collector_certificate(folder)) == (0, before)
    assert "is young enough" in done.out
    done = shell.run("renew", "--collector", folder)
    after = collector_certificate(folder)
    assert (done.status, done.err, after.names) == (0, "", before.names)
    assert f"Renewed the certificate of collector {', '.join(after.names)} until" in done.out
    assert after.pem != before.pem


def test_a_collectors_own_from_days_to_come(shell: Shell, folder: Path) -> None:
    names = collector_certificate(folder).names
    reissue_collector(folder, names, now=time.time() + 14 * 365 * 86400)  # as by the timer, with the clock ahead
    fault = Authority.load(folder).clock_fault()
    assert fault is not None
    assert "unless the clock was ahead then (if so, run `netdump renew --collector`)" in fault
    done = shell.run("renew", "--collector", folder, "--if-older-than", "50%", "--json")
    assert (done.status, done.object["renewed"]) == (0, True)
    assert collector_certificate(folder).names == names
    assert Authority.load(folder).clock_fault() is None


def test_other_names_for_a_collector(shell: Shell, folder: Path) -> None:
    kept, *gone = collector_certificate(folder).names
    done = shell.run("renew", "--collector", folder, "--name", f"new.example, {kept}", "--if-older-than", "50%")
    assert done.status == 0
    assert collector_certificate(folder).names == ("new.example", kept)
    assert f"No longer in it: {', '.join(gone)}." in done.err
    fields = shell.run("renew", "--collector", folder, "--name", "new.example", "--json").object
    assert fields.pop("expires").endswith("Z")
    assert fields == {"name": "new.example", "names": ["new.example"], "role": "collector", "renewed": True}
    assert shell.run("renew", "--collector", folder, "--name", "a b").status == BadNameError.exit_status
    assert collector_certificate(folder).names == ("new.example",)


def test_a_lost_certificate_of_a_collector(shell: Shell, folder: Path) -> None:
    (folder / "pki" / "collector.crt").unlink()
    done = shell.run("renew", "--collector", folder)
    assert done.status == PkiError.exit_status
    assert "with --name" in done.err
    assert shell.run("renew", "--collector", folder, "--name", "c.example").status == 0
    assert collector_certificate(folder).names == ("c.example",)


def test_a_collector_near_the_end_of_its_authority(shell: Shell, tmp_path: Path) -> None:
    init_authority(tmp_path, ["localhost"], now=time.time() - 15 * 365 * 86400)
    assert "It ends with the authority" in shell.run("renew", "--collector", tmp_path).err


def test_one_at_a_time(shell: Shell, folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run("renew", "--collector", folder, "--config", bundle).status == 2
    assert shell.run("renew", "--config", bundle, "--name", "web2").status == 2
    monkeypatch.setenv("NETDUMP_CONFIG", str(bundle))
    before = bundle.read_bytes()
    assert shell.run("renew", "--collector", folder).status == 0
    assert bundle.read_bytes() == before
    assert shell.run("renew", "--collector", bundle.parent / "nothing").status == NotACollectorError.exit_status


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("50%", 0.5), ("99", 0.99), (" 7% ", 0.07)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(CONTEXT, command.params[0], text) == share


@pytest.mark.parametrize("text", ["", "%", "100%", "-1%", "0.5", "50 %", "٣%"])
def test_bad_shares(shell: Shell, bundle: Path, text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_share(CONTEXT, command.params[0], text)
    assert shell.run("renew", "--config", bundle, f"--if-older-than={text}").status == 2
