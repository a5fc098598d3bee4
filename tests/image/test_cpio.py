from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.image.cpio import Archive

if TYPE_CHECKING:
    from pathlib import Path


def sample() -> Archive:
    archive = Archive()
    archive.add_file("etc/key", b"secret", 0o600)
    archive.add_file("/init", b"#!/x\n", 0o755)
    archive.add_link("bin/sh", "busybox")
    archive.add_folder("etc", 0o700)
    archive.add_device("dev/console", 5, 1)
    return archive


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio")
def test_cpio_itself_reads_the_archive(tmp_path: Path) -> None:
    done = subprocess.run(["cpio", "-itvn"], input=sample().pack(), capture_output=True, check=False)
    lines = {line.split()[-1]: line.split() for line in done.stdout.decode().splitlines()}
    assert done.returncode == 0, done.stderr
    assert lines["etc"][0] == "drwx------"
    assert (lines["etc/key"][0], lines["etc/key"][4]) == ("-rw-------", "6")
    assert lines["init"][0] == "-rwxr-xr-x"
    assert lines["dev/console"][0] == "crw-------"
    assert lines["dev/console"][4:6] == ["5,", "1"]
    assert lines["busybox"][0] == "lrwxrwxrwx"


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio")
def test_content_survives(tmp_path: Path) -> None:
    subprocess.run(["cpio", "-id", "--quiet", "etc/key", "init"], input=sample().pack(), cwd=tmp_path, check=True)
    assert (tmp_path / "etc/key").read_bytes() == b"secret"
    assert (tmp_path / "init").read_bytes() == b"#!/x\n"


def test_the_order_of_adding_does_not_matter() -> None:
    one, other = Archive(), Archive()
    for archive, names in ((one, "ab"), (other, "ba")):
        for name in names:
            archive.add_file(f"x/{name}", name.encode())
    assert one.pack() == other.pack()


def test_folders_come_before_what_is_in_them() -> None:
    archive = Archive()
    archive.add_file("a/b/c", b"")
    archive.add_file("a.d", b"")
    packed = archive.pack()
    assert packed.index(b"a\0") < packed.index(b"a/b\0") < packed.index(b"a/b/c\0")


@pytest.mark.parametrize("path", ["", "/", "a//b", "a/../b", "./a", "a/", "TRAILER!!!", "x" * 5000])
def test_paths_that_no_archive_can_hold(path: str) -> None:
    with pytest.raises(AssertionError):
        Archive().add_file(path, b"")


def test_a_file_is_no_folder() -> None:
    archive = Archive()
    archive.add_file("a", b"")
    with pytest.raises(AssertionError):
        archive.add_file("a/b", b"")


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=9), st.binary(max_size=9), max_size=5))
def test_every_entry_is_aligned(files: dict[str, bytes]) -> None:
    archive = Archive()
    for name, content in files.items():
        archive.add_file(name, content)
    packed, at, found = archive.pack(), 0, {}
    while True:
        assert at % 4 == 0
        assert packed[at : at + 6] == b"070701"
        fields = [int(packed[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = packed[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = packed[start : start + fields[6]]
        at = start + (fields[6] + 3) // 4 * 4
    assert found == files
    assert len(packed) % 512 == 0


def test_items_in_their_order() -> None:
    archive = Archive()
    archive.add_file("b/c", b"x")
    archive.add_folder("a", 0o700)
    assert [(path, entry.content) for path, entry in archive.items()] == [("a", b""), ("b", b""), ("b/c", b"x")]
