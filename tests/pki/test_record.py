"""Records on file: whole, of the right kind, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdump.errors import DamagedError
from netdump.pki import Role, record

FORMAT = "netdump-thing/1"
PATH = Path("thing")


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    path.write_bytes(record.pack(FORMAT, {"role": "host", "name": "web1", "when": 7}))
    assert record.read(path, FORMAT) == {"format": FORMAT, "role": "host", "name": "web1", "when": 7}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"nonsense",
        record.pack("netdump-other/1", {}),
        record.pack(FORMAT, {"name": "web1"})[:-1],
        record.pack(FORMAT, {"name": "web1"}).replace(b"web1", b"web2"),
        b"[" * 60000,
        record.pack(FORMAT, {"name": "w" * 70000}),
    ],
)
def test_damage_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "thing"
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=str(path)):
        record.read(path, FORMAT)


def test_a_missing_file_is_the_callers_affair(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        record.read(tmp_path / "thing", FORMAT)


def test_fields() -> None:
    fields: dict[str, object] = {"role": "analyst", "name": "ann", "when": 7}
    assert record.role(fields, PATH) is Role.ANALYST
    assert record.name(fields, PATH) == "ann"
    assert record.number(fields, "when", PATH) == 7


@pytest.mark.parametrize("value", [None, 1, "", "root", "HOST", ["host"]])
def test_other_roles(value: object) -> None:
    with pytest.raises(DamagedError, match=r"^thing: role"):
        record.role({"role": value}, PATH)


@pytest.mark.parametrize("value", [None, 1, "", "a/b", "a\x1b[0m"])
def test_other_names(value: object) -> None:
    with pytest.raises(DamagedError, match=r"^thing: ") as caught:
        record.name({"name": value}, PATH)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [None, "7", 7.0, True, -1, record.TIME_MAX + 1])
def test_other_moments(value: object) -> None:
    with pytest.raises(DamagedError, match=r"^thing: when"):
        record.number({"when": value}, "when", PATH)


def test_timestamp() -> None:
    assert record.timestamp(0) == "1970-01-01T00:00:00Z"
    assert record.timestamp(record.TIME_MAX) == "9999-12-31T23:59:59Z"
