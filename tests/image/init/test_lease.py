from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from netdump.image.init.lease import NEVER, HeldLease, forget, held_lease, remember, renewal_time

if TYPE_CHECKING:
    from pathlib import Path

LEASE = HeldLease("eth0", "52:54:00:12:34:56", "192.0.2.7", "192.0.2.1", 1030.25, 1060.5)


def test_stages_tell_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "lease")
    remember(LEASE, path)
    assert (held_lease(path), renewal_time(path)) == (LEASE, 1030.25)
    remember(LEASE._replace(renew_at=2000.0), path)
    assert renewal_time(path) == 2000.0
    forget(path)
    forget(path)
    assert (held_lease(path), renewal_time(path)) == (None, NEVER)


def test_without_room_nothing_is_renewed(tmp_path: Path) -> None:
    path = str(tmp_path / "absent" / "lease")
    remember(LEASE, path)
    assert held_lease(path) is None


@pytest.mark.parametrize("content", [b"", b"eth0 mac 192.0.2.7 192.0.2.1 soon later", b"\xff", b"1 2 3"])
def test_half_a_record_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lease"
    path.write_bytes(content)
    assert renewal_time(str(path)) == NEVER
