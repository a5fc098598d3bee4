"""A collector's folder with certificates that were made once, and an API on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.place import NAME
from netdump.pki import Authority, Role, init_authority
from netdump.remote.staging import Staging
from netdump.store.store import Store
from tests.pki.papers import enrolled
from tests.remote.fake_api import FakeApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from netdump.pki import Bundle
    from netdump.pki.endpoint import Endpoint


@dataclass(frozen=True)
class Office:
    """Who issues certificates."""

    folder: Path
    bundles: dict[Role, Bundle]

    def bundle(self, role: Role, endpoint: Endpoint) -> Bundle:
        return replace(self.bundles[role], api=endpoint)


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    folder = tmp_path_factory.mktemp("office")
    init_authority(folder, ["localhost"])
    Index.open(folder / NAME).close()
    authority = Authority.load(folder)
    return Office(folder, {role: enrolled(authority, "ann", role) for role in (Role.ANALYST, Role.OPERATOR)})


@pytest.fixture
def root(office: Office, tmp_path: Path) -> Path:
    folder = tmp_path / "collector"
    shutil.copytree(office.folder, folder)
    return folder


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root / "dumps")


@pytest.fixture
def catalog(root: Path, store: Store) -> Iterator[LocalCatalog]:
    with LocalCatalog(root) as opened:
        yield opened


@pytest.fixture
def api(office: Office, catalog: LocalCatalog) -> Iterator[FakeApi]:
    with FakeApi(office, catalog) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "core"


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    made = Staging(tmp_path / "core")
    made.make()
    return made
