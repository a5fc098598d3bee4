from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.client.address import Address
from netdump.client.config import SETTINGS, Config, Settings, load_config
from netdump.client.words import parse_words
from netdump.errors import BundleError, ConfigError, ConfigMissingError

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n"
BUNDLE = f"""\
version = 1
name = "web1"
role = "host"
collectors = ["collector.example:7461", "[fd00::7]"]
api = "https://collector.example:7462"
[tls]
ca = '''{CERTIFICATE}'''
certificate = '''{CERTIFICATE}'''
key = '''{KEY}'''
"""


def load(path: Path, text: str, words: str = "", **overrides: object) -> Config:
    file = path / "client.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(str(file), parse_words(words), overrides)


def test_a_bundle_and_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, BUNDLE)
    assert config.name == "web1"
    assert config.collectors == (Address("collector.example", 7461), Address("fd00::7", 7461))
    assert config.credentials == (CERTIFICATE, CERTIFICATE, KEY)
    assert config.settings == Settings()
    assert config.warnings == ()


def test_who_wins(tmp_path: Path) -> None:
    text = BUNDLE + "[send]\nlevel = 1\ndeadline = 100\nretry_max = 7.5\nkmsg = true\n"
    assert load(tmp_path, text).settings[:2] == (1, 100)
    config = load(tmp_path, text, "quiet netdump.deadline=200 netdump.kmsg=0 netdump.retry_min=2", deadline=300)
    assert config.settings == Settings(level=1, deadline=300, retry_min=2, retry_max=7.5, kmsg=False)


def test_the_kernel_command_line_names_collectors(tmp_path: Path) -> None:
    config = load(tmp_path, BUNDLE, "netdump.collectors=a:1,b")
    assert config.collectors == (Address("a", 1), Address("b", 7461))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("netdump.dedline=1", "did you mean netdump.deadline?"),
        ("netdump.collector=a", "did you mean netdump.collectors?"),
        ("netdump.qqqq", "known: "),
        ("netdump.=1", "unknown setting"),
    ],
)
def test_unknown_words_are_left_out_with_a_warning(tmp_path: Path, words: str, message: str) -> None:
    config = load(tmp_path, BUNDLE, words)
    (warning,) = config.warnings
    assert warning.startswith("kernel command line: ")
    assert message in warning
    assert config.settings == load(tmp_path, BUNDLE).settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("netdump.level=32", "level is 32, must be a whole number from 0 to 31"),
        ("netdump.level=x", "level is 'x'"),
        ("netdump.level=1.5", "level is '1.5'"),
        ("netdump.deadline=0", "deadline is 0.0, must be a number from 1 to"),
        ("netdump.deadline=nan", "deadline is nan"),
        ("netdump.deadline=inf", "deadline is inf"),
        ("netdump.drill=perhaps", "must be true or false"),
        ("netdump.remark=" + "x" * 1025, "at most 1024 bytes"),
        ("netdump.collectors=", "not a collector's address"),
        ("netdump.collectors=" + ",".join("a" * 17), "1 to 16 collectors"),
        ("netdump.retry_min=40", "retry_min (40 s) is more than retry_max (30 s)"),
    ],
)
def test_impossible_words_are_left_out_with_a_warning(tmp_path: Path, words: str, message: str) -> None:
    config = load(tmp_path, BUNDLE, words)
    (warning,) = config.warnings
    assert message in warning
    assert config._replace(warnings=()) == load(tmp_path, BUNDLE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 1", "version = 2", "version is 2, this netdump reads 1"),
        ("version = 1\n", "", "version is None"),
        ('role = "host"', 'role = "analyst"', "role 'analyst', which cannot send"),
        ("collectors", "colectors", "unknown setting colectors; did you mean collectors?"),
        ("[tls]", "[tsl]", "unknown setting tsl; did you mean tls?"),
        ("certificate = '''", "certificat = '''", "did you mean certificate?"),
        (
            "version = 1",
            "version = ",
            "client.toml is not valid TOML (Invalid value (at line 1, column 11)): correct it there, or enroll again",
        ),
        ('["collector.example:7461", "[fd00::7]"]', "7", "collectors must be a list"),
        ('["collector.example:7461", "[fd00::7]"]', "[]", "1 to 16 collectors, not 0"),
        ('["collector.example:7461", "[fd00::7]"]', '["a:b"]', "'a:b' is not a collector's address"),
    ],
)
def test_a_wrong_bundle_says_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, BUNDLE.replace(old, new))
    assert message in str(caught.value)
    assert not isinstance(caught.value, BundleError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level = '1'", "level is '1', must be a whole number"),
        ("level = true", "level is True"),
        ("stall_timeout = 1e9", "stall_timeout is 1000000000.0, must be a number from 1 to 3600"),
        ("drill = 1", "drill is 1, must be true or false"),
        ("remark = 7", "remark must be printable text"),
        ('remark = "a\\nb"', "remark must be printable text"),
        ("stall_timout = 1", "[send]: unknown setting stall_timout; did you mean stall_timeout?"),
    ],
)
def test_wrong_settings_of_the_bundle(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{BUNDLE}[send]\n{text}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
@pytest.mark.parametrize(
    "damage", ["missing", "'''nothing'''", "7", "'''é-----BEGIN CERTIFICATE-----PRIVATE KEY-----'''"]
)
def test_keys_and_certificates_must_look_like_it(tmp_path: Path, name: str, damage: str) -> None:
    parts = {"ca": CERTIFICATE, "certificate": CERTIFICATE, "key": KEY}
    values = {part: f"'''{text}'''" for part, text in parts.items()} | {name: damage}
    lines = [f"{part} = {value}" for part, value in values.items() if value != "missing"]
    with pytest.raises(BundleError, match=rf"{name} of \[tls\] is (missing|not a PEM text): enroll"):
        load(tmp_path, BUNDLE[: BUNDLE.index("[tls]")] + "[tls]\n" + "\n".join(lines))


def test_secrets_are_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, BUNDLE.replace(KEY, "-----BEGIN PRIVATE KEY-----\nSECRET") + "[[[")
    assert "SECRET" not in str(caught.value)


def test_a_bundle_that_went_through_an_editor_of_another_system(tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_bytes(b"\xef\xbb\xbf" + BUNDLE.replace("\n", "\r\n").encode())
    assert load_config(str(tmp_path / "client.toml"), {}, {}).credentials == (CERTIFICATE, CERTIFICATE, KEY)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissingError, match="does not exist: name the bundle with --config"):
        load_config(str(tmp_path / "none"), {}, {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(str(tmp_path), {}, {})
    (tmp_path / "binary").write_bytes(b"version\xff")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 7\)"):
        load_config(str(tmp_path / "binary"), {}, {})
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(str(tmp_path / "large"), {}, {})


def test_a_bundle_for_other_eyes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied: run this as its owner or as root"):
        load_config(str(tmp_path / "client.toml"), {}, {})


def test_a_readable_key_is_warned_of(tmp_path: Path) -> None:
    load(tmp_path, BUNDLE)
    (tmp_path / "client.toml").chmod(0o640)
    (warning,) = load_config(str(tmp_path / "client.toml"), {}, {}).warnings
    assert "readable by others" in warning


def test_the_level_depends_on_what_is_sent() -> None:
    assert Settings().level_of(capture=True) == 31
    assert Settings().level_of(capture=False) == 0
    for level in (0, 9, 31):
        assert Settings(level=level).level_of(capture=True) == level
        assert Settings(level=level).level_of(capture=False) == level


def test_every_setting_has_a_place_and_a_legal_default() -> None:
    assert tuple(SETTINGS) == Settings._fields
    for name, setting in SETTINGS.items():
        default = getattr(Settings(), name)
        assert setting.floor < setting.ceiling
        if default is not None and not isinstance(default, str):
            assert setting.floor <= default <= setting.ceiling
