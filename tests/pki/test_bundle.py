"""The bundle: both programs that read it agree, and a renewal touches nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.client.config import load_config
from netdump.errors import BundleError, ConfigError, ConfigMissingError
from netdump.pki import Authority, Bundle, Role
from netdump.pki.bundle import check_collectors, exchange, parse_bundle, read_text
from tests.pki import papers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(authority: Authority) -> Bundle:
    return replace(papers.enrolled(authority, "web1"), collectors=("collector.example:7461", "[2001:db8::7]:7461"))


def test_round_trip(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text(bundle.text())
    assert Bundle.load(path) == replace(bundle, origin=str(path))


def test_the_sender_reads_the_same(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text(bundle.text())
    path.chmod(0o600)
    config = load_config(str(path), {}, {})
    assert config.name == "web1"
    assert tuple(str(each) for each in config.collectors) == bundle.collectors
    assert config.credentials == (bundle.ca, bundle.certificate, bundle.key)
    assert config.warnings == ()


def test_the_key_is_not_shown(bundle: Bundle) -> None:
    assert "PRIVATE" not in repr(bundle)
    assert "PRIVATE" not in str(bundle)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissingError, match="netdump enroll"):
        Bundle.load(tmp_path / "client.toml")
    with pytest.raises(ConfigError):
        read_text(tmp_path)
    (tmp_path / "client.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_text(tmp_path / "client.toml")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("version = 1", "version = 2", ConfigError),
        ("version = 1", "", ConfigError),
        ("version = 1", "version = [", ConfigError),
        ('name = "web1"', "", ConfigError),
        ('name = "web1"', 'name = "a/b"', ConfigError),
        ('name = "web1"', "name = 7", ConfigError),
        ('role = "host"', 'role = "root"', ConfigError),
        ("collectors = [", "collectors = [7, ", ConfigError),
        ("collectors = [", "collectors = ['a:0', ", ConfigError),
        ('api = "https', 'api = "http', ConfigError),
        ("[tls]", "[tlz]", BundleError),
        ("[tls]\nca =", "[tls]\nkaa =", BundleError),
        ("BEGIN PRIVATE", "START PRIVATE", BundleError),
    ],
)
def test_bad_bundles(bundle: Bundle, old: str, new: str, error: type[ConfigError]) -> None:
    text = bundle.text()
    assert old in text
    with pytest.raises(error) as caught:
        parse_bundle(text.replace(old, new), "client.toml")
    assert caught.type is error
    if "http" not in old and "a:0" not in new:
        assert "client.toml" in str(caught.value)


@pytest.mark.parametrize("value", [None, "a:1", [], ["a:1"] * 17, [1], ["a:70000"], [""]])
def test_bad_collectors(value: object) -> None:
    with pytest.raises(ConfigError):
        check_collectors(value, "client.toml")


def test_collectors_get_their_port() -> None:
    assert check_collectors(["a", "b:1", "[::1]"], "client.toml") == ("a:7461", "b:1", "[::1]:7461")


def test_an_exchange_touches_nothing_else(authority: Authority, bundle: Bundle) -> None:
    other = papers.enrolled(authority, "web1")
    renewed = bundle.renewed(other.certificate, other.key)
    notes = "# ours: do not touch\n"
    text = notes + bundle.text() + "\n[send]\nlevel = 31  # as agreed\n"
    changed = exchange(text, bundle, renewed)
    assert parse_bundle(changed, bundle.origin) == renewed
    assert changed.startswith(notes)
    assert changed.endswith("level = 31  # as agreed\n")
    assert bundle.key not in changed
    assert changed.replace(other.certificate, bundle.certificate).replace(other.key, bundle.key) == text


def test_an_exchange_in_a_file_of_another_system(authority: Authority, bundle: Bundle, tmp_path: Path) -> None:
    other = papers.enrolled(authority, "web1")
    renewed = bundle.renewed(other.certificate, other.key)
    path = tmp_path / "client.toml"
    path.write_bytes(b"\xef\xbb\xbf" + bundle.text().replace("\n", "\r\n").encode())
    text = read_text(path)
    changed = exchange(text, parse_bundle(text, bundle.origin), renewed)
    assert parse_bundle(changed, bundle.origin) == renewed
    assert changed.count("\r\n") == changed.count("\n")


def test_an_exchange_that_is_not_clear_is_refused(authority: Authority, bundle: Bundle) -> None:
    other = papers.enrolled(authority, "web1", Role.HOST)
    renewed = bundle.renewed(other.certificate, other.key)
    text = bundle.text()
    copy = f"\n[old]\ncopy = '''\n{bundle.certificate}'''\n"
    one_line = f"certificate = {json.dumps(bundle.certificate)}\n"
    with pytest.raises(BundleError, match="cannot be changed in place"):
        exchange(text.replace(f"certificate = '''\n{bundle.certificate}'''\n", one_line) + copy, bundle, renewed)
    with pytest.raises(BundleError, match="enroll again"):
        exchange(text.replace("'''\n-----BEGIN PRIVATE", "'''-----BEGIN\\tPRIVATE"), bundle, renewed)
    with pytest.raises(BundleError, match="enroll again"):
        exchange(text + f"\n[old]\ncopy = '''\n{bundle.certificate}'''\n", bundle, renewed)
