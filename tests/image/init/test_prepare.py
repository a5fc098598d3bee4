from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.image.init import prepare
from netdump.image.init.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_fails_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    loaded: list[bytes] = []

    def load(content: bytes) -> None:
        loaded.append(content)
        if content == b"bad":
            raise OSError(8, "Exec format error")
        if content == b"twice":
            raise FileExistsError

    def mount(source: str, *_: object) -> None:
        if source == "sysfs":
            raise OSError(1, "Operation not permitted")
        if source == "proc":
            raise OSError(16, "busy")

    monkeypatch.setattr(prepare, "load_module", load)
    monkeypatch.setattr(prepare, "mount", mount)
    monkeypatch.setattr(prepare, "MOUNTS", [(kind, str(tmp_path / kind), kind, 0) for kind in ("proc", "sysfs", "dev")])
    paths = []
    for name in ("bad", "twice", "good"):
        (tmp_path / f"{name}.ko").write_bytes(name.encode())
        paths.append(str(tmp_path / f"{name}.ko"))
    assert prepare.prepare(Plan(modules=(*paths, str(tmp_path / "absent.ko")))) == 0
    assert loaded == [b"bad", b"twice", b"good"]
    assert said == [
        f"cannot mount sysfs on {tmp_path}/sysfs: Operation not permitted",
        "module bad.ko does not load: Exec format error",
        "module absent.ko does not load: No such file or directory",
    ]
    assert not (tmp_path / "good.ko").exists()  # its memory is free again
