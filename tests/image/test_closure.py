from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BundleError, ConfigMissingError, ProgramsError
from netdump.image import closure
from netdump.image.closure import add_closure, find_closure, read_binary
from netdump.image.cpio import Archive

if TYPE_CHECKING:
    from pathlib import Path

FORBIDDEN = {"asyncio", "logging", "dataclasses", "pathlib", "subprocess", "runpy", "click", "cryptography"}


@pytest.fixture(scope="module")
def found(bundle: Path) -> closure.Closure:
    return find_closure(bundle)


def test_what_the_client_loads_is_there(found: closure.Closure) -> None:
    targets = {file.target for file in (*found.files, *found.sources)}
    library = f"usr/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("os", "ssl", "netdump/client/command", "netdump/image/init/supervisor", "netdump/codec", "locale"):
        assert f"{library}/{name}.pyc" in targets
    assert "usr/bin/python3" in targets
    assert any("libcrypto" in target for target in targets)
    assert any("zstandard/backend_c" in target for target in targets)


def test_what_it_does_not_load_is_not(found: closure.Closure) -> None:
    modules = {part for file in found.sources for part in file.target.removesuffix(".pyc").split("/")}
    assert not modules & FORBIDDEN
    assert not any("_cffi" in file.target or "netdump/server" in file.target for file in (*found.files, *found.sources))
    assert not any(file.target.endswith(("image/probe.pyc", "image/rehearsal.pyc")) for file in found.sources)


def test_every_part_is_added_up(found: closure.Closure) -> None:
    """That the same bytes come out twice is for test_build."""
    archive = Archive()
    sizes = add_closure(found, archive, strip=False)
    assert set(sizes) >= {"standard library", "netdump", "interpreter", "OpenSSL", "C library", "zstandard"}
    assert sum(sizes.values()) == sum(len(entry.content) for _, entry in archive.items())
    for file in (*found.files, *found.sources):
        assert file.target in archive


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(closure, "ROOTS", ("netdump.client.command", "no_such_module"))
    with pytest.raises(ProgramsError, match=r"no_such_module cannot be imported by .*: the client needs it"):
        find_closure(bundle)


def test_bundles_that_cannot_be_used(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ConfigMissingError):
        find_closure(tmp_path / "absent.toml")
    damaged = tmp_path / "client.toml"
    damaged.write_text(bundle.read_text().replace("PRIVATE KEY", "PUBLIC KEY"))
    with pytest.raises(BundleError):
        find_closure(damaged)


def test_stripping_needs_strip_and_changes_no_text(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"x")
    assert read_binary(text, shutil.which("strip")) == b"x"
    with pytest.raises(ProgramsError, match="cannot be read"):
        read_binary(tmp_path / "absent", None)


@pytest.mark.skipif(shutil.which("strip") is None, reason="binutils")
def test_stripping_makes_it_smaller(found: closure.Closure) -> None:
    (backend,) = (file for file in found.files if "backend_c" in file.target)
    whole = backend.source.stat().st_size
    stripped = len(read_binary(backend.source, shutil.which("strip")))
    assert stripped <= whole
    assert stripped < 2 << 20
