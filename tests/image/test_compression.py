from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from netdump.errors import CompressionError
from netdump.image.compression import choose, compress
from netdump.image.kernel import Kernel

DATA = b"netdump" * 9999


def kernel(**config: str) -> Kernel:
    return Kernel("6.1", Path("/"), Path("/"), config)


def test_the_best_that_the_kernel_can_unpack() -> None:
    assert choose(kernel()) == "zstd"
    assert choose(kernel(RD_ZSTD="y", RD_XZ="y")) == "zstd"
    assert choose(kernel(RD_XZ="y", RD_GZIP="y")) == "xz"
    assert choose(kernel(RD_GZIP="y")) == "gzip"
    assert choose(kernel(OTHER="y")) == "none"


def test_a_choice_is_checked() -> None:
    assert choose(kernel(RD_GZIP="y"), "gzip") == "gzip"
    assert choose(kernel(RD_GZIP="y"), "none") == "none"
    with pytest.raises(CompressionError, match=r"kernel 6\.1 cannot unpack zstd \(CONFIG_RD_ZSTD is not set\)"):
        choose(kernel(RD_GZIP="y"), "zstd")


def test_others_unpack_it() -> None:
    assert zstandard.ZstdDecompressor().decompress(compress("zstd", DATA)) == DATA
    assert lzma.decompress(compress("xz", DATA)) == DATA
    assert gzip.decompress(compress("gzip", DATA)) == DATA
    assert compress("none", DATA) == DATA


@pytest.mark.parametrize("name", ["zstd", "xz", "gzip"])
def test_the_same_every_time(name: str) -> None:
    assert compress(name, DATA, 3) == compress(name, DATA, 3)


def test_xz_carries_the_one_check_that_the_kernel_knows() -> None:
    assert compress("xz", DATA)[6:8] == b"\x00\x01"  # CRC32; xz file format 2.1.1.2
