"""A collector's folder for each test, with certificates that were made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from netdump.pki import Role
from netdump.server import tls
from tests.server.rig import Papers, copy_folder, issue, make_folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Template:
    folder: Path
    web1: Papers
    web2: Papers
    ann: Papers
    olga: Papers


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    folder = tmp_path_factory.mktemp("collector") / "template"
    make_folder(folder)
    return Template(
        folder,
        issue(folder, Role.HOST, "web1"),
        issue(folder, Role.HOST, "web2"),
        issue(folder, Role.ANALYST, "ann"),
        issue(folder, Role.OPERATOR, "olga"),
    )


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for peers of tests that do not say goodbye."""
    monkeypatch.setattr(tls, "SHUTDOWN_S", 0.2)


@pytest.fixture
def folder(template: Template, tmp_path: Path) -> Path:
    return copy_folder(template.folder, tmp_path / "collector")


@pytest.fixture
def web1(template: Template) -> Papers:
    return template.web1


@pytest.fixture
def web2(template: Template) -> Papers:
    return template.web2


@pytest.fixture
def ann(template: Template) -> Papers:
    return template.ann


@pytest.fixture
def olga(template: Template) -> Papers:
    return template.olga
