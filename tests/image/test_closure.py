from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netdump.errors import BundleError, ConfigMissingError, ProgramsError
from netdump.image import closure
from netdump.image.closure import add_closure, find_closure, read_binary
from netdump.image.cpio import Archive
from tests.image.archives import Packed, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORBIDDEN = {"asyncio", "logging", "dataclasses", "pathlib", "subprocess", "runpy", "click", "cryptography"}


@pytest.fixture(scope="module")
def found(bundle: Path) -> closure.Closure:
    return find_closure(bundle)


@pytest.fixture(scope="module")
def added(found: closure.Closure) -> tuple[Archive, dict[str, int]]:
    """An archive with all of it, and bytes by part."""
    archive = Archive()
    return archive, add_closure(found, archive, strip=False)


@pytest.fixture(scope="module")
def root(added: tuple[Archive, dict[str, int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image's interpreter finds: its library, and nothing of this machine's."""
    root = tmp_path_factory.mktemp("root")
    write({path: Packed(entry.mode, entry.content) for path, entry in added[0].items()}, root)
    return root


def run_inside(root: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in the image's interpreter: its library is the one beside it."""
    command = [str(root / closure.PYTHON_PATH), "-I", "-S", "-B", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def needed_later(source: str) -> Iterator[tuple[str, str]]:
    """What the functions of a module load when they run: modules and codecs, each with its kind."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import):
                    yield from (("module", alias.name) for alias in inner.names)
                elif isinstance(inner, ast.ImportFrom) and inner.module:
                    yield "module", inner.module
        elif isinstance(node, ast.Call):
            method = isinstance(node.func, ast.Attribute) and node.func.attr in {"encode", "decode"}
            named = [word.value for word in node.keywords if word.arg == "encoding"]
            for name in [*(node.args[:1] if method else ()), *named]:
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield "codec", name.value


def test_what_is_loaded_later_is_there(found: closure.Closure, root: Path) -> None:
    """A function that runs first in the capture kernel must not be the first to miss something."""
    needed = {
        need for file in found.sources if "/netdump/" in file.target for need in needed_later(file.source.read_text())
    }
    assert {("codec", "ascii"), ("module", "json"), ("module", "netdump.vmcore.filter")} <= needed
    code = (
        "import codecs, importlib, sys\n"
        "for kind, name in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    (importlib.import_module if kind == 'module' else codecs.lookup)(name)\n"
        "print(*sys.path, sep='\\n')\n"
    )
    done = run_inside(root, code, *(part for need in sorted(needed) for part in need))
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith(str(root)) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "Send a core to a collector"),
        (["--level", "none"], 2, "invalid int value"),
        (
            ["/core", "--config", "/no\u00a0such\x1b.toml"],
            ConfigMissingError.exit_status,
            r"/no\xa0such\x1b.toml does not exist",
        ),
    ],
)
def test_the_client_can_speak_there(root: Path, arguments: list[str], status: int, said: str) -> None:
    code = "import sys; from netdump.client.command import main; sys.exit(main(sys.argv[1:]))"
    done = run_inside(root, code, *arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


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


def test_every_part_is_added_up(found: closure.Closure, added: tuple[Archive, dict[str, int]]) -> None:
    """That the same bytes come out twice is for test_build."""
    archive, sizes = added
    assert set(sizes) >= {"standard library", "netdump", "interpreter", "OpenSSL", "C library", "zstandard"}
    assert sum(sizes.values()) == sum(len(entry.content) for _, entry in archive.items())
    for file in (*found.files, *found.sources):
        assert file.target in archive


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(closure, "ROOTS", ("netdump.client.command", "no_such_module"))
    with pytest.raises(ProgramsError, match=r"no_such_module cannot be imported by .*: the client needs it"):
        find_closure(bundle)


def test_bundles_that_cannot_be_used(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure, "ROOTS", ())  # the rehearsal loads what it needs by itself
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
