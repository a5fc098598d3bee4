"""The sample is what its README says."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from netdump import samples

if TYPE_CHECKING:
    from pathlib import Path


def test_the_core_is_the_one_described(tmp_path: Path) -> None:
    core = tmp_path / "core"
    assert samples.write_core(core) == samples.CORE_BYTES == core.stat().st_size
    with core.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == samples.CORE_SHA256
    readme = (samples.CORE.parent / "README.md").read_text()
    assert samples.CORE_SHA256 in readme
    assert f"{samples.CORE_BYTES:,}" in readme
    assert f"{samples.CORE.stat().st_size:,}" in readme
