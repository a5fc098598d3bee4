from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.client.config import load_config
from netdump.errors import DependencyError
from netdump.image.checkup import credentials
from netdump.image.checkup.credentials import TOPIC_AUTHORITY, TOPIC_CERTIFICATE, check_dates, read_bundle
from netdump.image.checkup.finding import State
from tests.client.certificates import DAY, NOW

if TYPE_CHECKING:
    from pathlib import Path


def test_a_good_bundle(bundle: Path) -> None:
    config, finding = read_bundle(bundle, {})
    assert config is not None
    assert (finding.state, "host web1, sends to 192.0.2.9:7461" in finding.fact) == (State.OK, True)
    _, finding = read_bundle(bundle, {"collectors": "spare.example"})
    assert "sends to spare.example:7461" in finding.fact


def test_bundles_that_are_not(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, finding = read_bundle(tmp_path / "absent.toml", {})
    assert (config, finding.state, "netdump enroll" in finding.remedy) == (None, State.PROBLEM, True)

    path = tmp_path / "client.toml"
    path.write_text(bundle.read_text().replace("BEGIN CERTIFICATE-----\nM", "BEGIN CERTIFICATE-----\n!"))
    config, finding = read_bundle(path, {})
    assert (config, finding.state, "is damaged" in finding.fact) == (None, State.PROBLEM, True)

    path.write_text(bundle.read_text())
    path.chmod(0o644)
    config, finding = read_bundle(path, {})
    assert config is not None
    assert (finding.state, finding.remedy.startswith(f"chmod 600 {path}")) == (State.PROBLEM, True)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("netdump.image.checkup.credentials.is_hidden", lambda _: True)
    config, finding = read_bundle(path, {})
    assert (config, finding.state, finding.remedy) == (None, State.UNKNOWN, "run this as root")


AGAIN = "netdump arm --if-changed"


@pytest.mark.parametrize(
    ("when", "state", "words"),
    [
        (NOW, State.WARNING, "ends in 0 days"),  # certificates of tests live for a day
        (NOW - 40 * DAY, State.PROBLEM, "not valid before"),
        (NOW + 2 * DAY, State.PROBLEM, "ended on"),
    ],
)
def test_dates(when: object, state: State, words: str, bundle: Path) -> None:
    config = load_config(str(bundle), {}, {})
    findings = list(check_dates(config, when.timestamp(), AGAIN))  # type: ignore[attr-defined]
    assert [each.topic for each in findings] == [TOPIC_CERTIFICATE, TOPIC_AUTHORITY]
    assert [each.state for each in findings] == [state, state]
    assert words in findings[0].fact
    assert (AGAIN in findings[0].remedy) == (state is State.WARNING)


def test_a_certificate_with_time_left(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdump.image.checkup.credentials.WARN_DAYS", -1)
    findings = list(check_dates(load_config(str(bundle), {}, {}), NOW.timestamp(), AGAIN))
    assert {each.state for each in findings} == {State.OK}
    assert findings[0].fact.startswith("good until ")  # its age is not known: a collector dates it back


def test_a_certificate_that_is_none(bundle: Path) -> None:
    config = load_config(str(bundle), {}, {})
    bad = config._replace(credentials=config.credentials._replace(certificate="-----BEGIN CERTIFICATE-----\n"))
    assert next(each.state for each in check_dates(bad, NOW.timestamp(), AGAIN)) is State.PROBLEM


def test_dates_that_an_old_library_does_not_tell(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> None:
        raise DependencyError("this needs a newer library")

    monkeypatch.setattr(credentials, "validity", refuse)
    findings = list(check_dates(load_config(str(bundle), {}, {}), NOW.timestamp(), AGAIN))
    assert [each.state for each in findings] == [State.UNKNOWN, State.UNKNOWN]
    assert findings[0].fact == "this needs a newer library"
