"""A drill against the real collector, with the client of a real image in its own files."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import DrillError
from netdump.image.build import ImageSpec, gather
from netdump.image.drill import exercise as module
from netdump.image.drill.exercise import exercise
from netdump.pki import Role
from tests.image.checkup.test_collectors import write_bundle
from tests.image.conftest import RELEASE
from tests.server.rig import Rig, issue, make_folder

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.build import Contents


@pytest.fixture
def _rooms() -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no permission to make name spaces")


@pytest.mark.usefixtures("_rooms")
def test_a_drill(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "collector")
    built: list[Contents] = []
    with Rig(tmp_path / "collector") as rig:
        bundle = write_bundle(tmp_path / "client.toml", rig, issue(rig.folder, Role.HOST, "web1"))
        spec = ImageSpec(bundle, kernel=RELEASE, level=1, strip=False)

        def gather_and_keep(*given: Any) -> Contents:
            built.append(gather(*given))
            return built[-1]

        monkeypatch.setattr(module, "gather", gather_and_keep)
        drill = exercise(spec, machine, "quiet netdump.remark=x")
        (event,) = rig.events.all("dump-complete")
        assert (event["host"], event["drill"]) == ("web1", True)
        assert drill.report["id"] == event["dump"]
        assert drill.core_bytes == drill.report["image_bytes"]
        assert 0 < drill.send_seconds < 60
        assert "is complete at localhost" in capfd.readouterr().err

    monkeypatch.setattr(module, "gather", lambda *_: built[0])
    with pytest.raises(DrillError, match=r"ended with status 31: .*Connection refused"):
        exercise(spec, machine, "netdump.patience=1")


def test_a_client_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for status, output, words in ((1, "", "ended with status 1"), (-9, "{", "ended by signal 9"), (0, "", "status 0")):
        with pytest.raises(DrillError, match=words):
            module._judge(status, output)


def test_root_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DrillError, match="run it as root"):
        exercise(ImageSpec(tmp_path / "x"), tmp_path, "")
