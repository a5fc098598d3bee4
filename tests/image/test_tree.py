from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from netdump.errors import AlreadyExistsError, ImageError
from netdump.image.build import Contents, ImageSpec, gather
from netdump.image.tree import DELIVER, write_tree
from tests.image.conftest import RELEASE

if TYPE_CHECKING:
    from pathlib import Path

ENTER = 'root=$1; shift; mount -t proc proc "$root/proc"; exec "$root/deliver" "$@"'


@pytest.fixture(scope="module")
def contents(bundle: Path, machine: Path) -> Contents:
    return gather(ImageSpec(bundle, kernel=RELEASE, watchdog=False, deadline=60), machine)


def test_what_is_in_it(contents: Contents, bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "netdump"
    written = write_tree(contents, root)
    assert (root / "etc/netdump/client.toml").read_bytes() == bundle.read_bytes()
    assert (root / "etc/netdump/client.toml").stat().st_mode & 0o777 == 0o600
    assert (root / "etc/netdump").stat().st_mode & 0o777 == 0o700
    executable = [path.name for path in root.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert sorted(name.partition("-")[0] for name in executable) == [DELIVER, "ld"]  # dracut asks what these need
    assert {"proc", "sys", "dev", "lib", "usr", "etc", DELIVER} <= {path.name for path in root.iterdir()}
    assert all((root / module.path[1:]).is_file() for module in contents.plan.modules)
    assert contents.plan.watchdog == 0  # the hardware's is in the hands of the image around it
    assert not (root / "init").exists()
    assert written == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_what_is_there_already_stays(contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="is not empty"):
        write_tree(contents, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(ImageError, match="cannot be written"):
        write_tree(contents, tmp_path / "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="root can chroot")
def test_it_runs_from_there(contents: Contents, tmp_path: Path) -> None:
    """In a network namespace that reaches nobody, and without a core: the words are understood, the answer is no."""
    root = tmp_path / "netdump"
    write_tree(contents, root)

    def deliver(*words: str) -> int:
        command = ["unshare", "-mnpf", "sh", "-c", ENTER, "sh", str(root), *words]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    assert deliver("--later") == 2
    (root / "etc/netdump/plan").write_text("nonsense")
    assert deliver() == 1
    assert deliver("--end") == 1
