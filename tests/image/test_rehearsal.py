from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.client.image import open_image
from netdump.errors import BundleError
from netdump.image.rehearsal import rehearse, tiny_core

if TYPE_CHECKING:
    from pathlib import Path


def test_the_core_is_one_that_the_client_takes(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(tiny_core())
    image = open_image(str(path), 0)
    assert image.size == 9 * 4096
    image.close()


def test_a_sound_bundle(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rehearse(str(bundle))
    assert capfd.readouterr() == ("", "")


def test_a_damaged_key(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "client.toml"
    text = bundle.read_text()
    at = text.index("PRIVATE KEY-----") + 40
    damaged.write_text(text[:at] + "AAAA" + text[at + 4 :])
    with pytest.raises(BundleError, match="certificate or key"):
        rehearse(str(damaged))
