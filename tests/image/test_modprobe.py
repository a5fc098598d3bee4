from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.errors import DriverError
from netdump.image.modprobe import module_options

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_no_configuration(tmp_path: Path) -> None:
    assert module_options(tmp_path) == {}


def test_what_counts_of_a_file(tmp_path: Path) -> None:
    text = """\
# options a from=comment
alias eth0 a
options a x=1 y
blacklist a
\toptions  some-thing\tz="1 2" \\
  w=3
options a \\
options a
options
install a /bin/true
options a x=2
"""
    write(tmp_path / "etc/modprobe.d/a.conf", text.encode() + b"options b c=\xff")
    write(tmp_path / "etc/modprobe.d/a.conf.dpkg-old", b"options a old=1\n")
    assert module_options(tmp_path) == {
        "a": ("x=1", "y", "options", "a", "x=2"),
        "some_thing": ('z="1', '2"', "w=3"),
        "b": ("c=\ufffd",),
    }


def test_files_in_their_order_each_name_once(tmp_path: Path) -> None:
    write(tmp_path / "usr/lib/modprobe.d/10-vendor.conf", b"options a from=vendor\n")
    write(tmp_path / "usr/lib/modprobe.d/20-other.conf", b"options a from=other\n")
    write(tmp_path / "etc/modprobe.d/10-vendor.conf", b"options a from=administrator\n")
    (tmp_path / "etc/modprobe.d/20-other.conf").symlink_to("/dev/null")  # as administrators mask one
    write(tmp_path / "run/modprobe.d/05-run.conf", b"options a from=run\n")
    assert module_options(tmp_path) == {"a": ("from=run", "from=administrator")}


def test_what_modprobe_passes_over(tmp_path: Path) -> None:
    """A link that leads nowhere is also what Emacs makes beside a file that somebody writes just now."""
    write(tmp_path / "etc/modprobe.d/a.conf", b"options a x=1\n")
    write(tmp_path / "etc/modprobe.d/.hidden.conf", b"options a hidden=1\n")
    (tmp_path / "etc/modprobe.d/.#a.conf").symlink_to("root@web1.4711:1790000000")
    (tmp_path / "etc/modprobe.d/gone.conf").symlink_to("/no/such/package/gone.conf")
    (tmp_path / "etc/modprobe.d/folder.conf").mkdir()
    assert module_options(tmp_path) == {"a": ("x=1",)}


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "etc/modprobe.d/a.conf", b"options a x=1\n")

    def fail(*_: object, **__: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_text", fail)
    with pytest.raises(DriverError, match=r"a\.conf, which may hold options of drivers, cannot be read: Input/output"):
        module_options(tmp_path)
