from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import ImageError
from netdump.image.elfobject import is_elf, read_modinfo, read_object
from tests.image.modules import kernel_module

PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def test_it_says_what_the_loader_finds() -> None:
    found = read_object(PYTHON.read_bytes(), "python")
    listed = subprocess.run(["ldd", PYTHON], capture_output=True, text=True, check=True).stdout
    assert Path(found.interpreter).exists()
    assert found.needed
    assert all(name in listed for name in found.needed)


def test_a_library_knows_its_name() -> None:
    listed = subprocess.run(["ldd", PYTHON], capture_output=True, text=True, check=True).stdout
    (path,) = (word for word in listed.split() if word.startswith("/") and "libc.so" in word)
    assert read_object(Path(path).read_bytes(), path).soname == Path(path).name


def test_modinfo() -> None:
    module = kernel_module({"license": "GPL", "firmware": "a.bin", "depends": ""}, firmware=["b.bin"])
    assert read_modinfo(module, "x.ko") == {"license": ["GPL"], "firmware": ["a.bin", "b.bin"], "depends": [""]}


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"#!/bin/sh\n" * 20])
def test_what_is_no_elf_is_refused(content: bytes) -> None:
    with pytest.raises(ImageError, match="the-file"):
        read_object(content, "the-file")
    with pytest.raises(ImageError, match="the-file"):
        read_modinfo(content, "the-file")


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.data())
def test_damage_is_an_image_error_or_no_harm(data: st.DataObject) -> None:
    content = bytearray(kernel_module({"license": "GPL"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    for read in (read_object, read_modinfo):
        try:
            read(bytes(content), "x")
        except ImageError:
            continue


def test_is_elf() -> None:
    assert is_elf(b"\x7fELF\x02")
    assert not is_elf(b"MZ")
