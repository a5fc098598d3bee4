"""Who is let in by which clock, and what is said of a clock that cannot be right."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from netdump import wire
from netdump.errors import CertificateError, PkiError, RevokedError
from netdump.pki import Authority, Role
from netdump.server import upkeep
from netdump.server.senders import LATEST, SAY_S, SLACK_S, Senders, last_written
from tests.pki import papers
from tests.server.rig import HASTE_S, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400
YEAR = 365 * DAY
ENDS_OF_TIME = [0.0, 5 * YEAR, 129 * YEAR, LATEST]  # 1970, 1975, 2099, 9999


class Hands(NamedTuple):
    """Two clocks to be set: of the wall, and the steady one."""

    wall: list[float]
    steady: list[float]

    def senders(self, folder: Path, events: Events, written: float = 0) -> Senders:
        return Senders(
            Authority.load(folder),
            events,
            written=written,
            clock=lambda: self.wall[0],
            steady=lambda: self.steady[0],
        )


@pytest.fixture
def hands() -> Hands:
    return Hands([time.time()], [1000.0])


@pytest.fixture
def events() -> Events:
    return Events()


def test_a_clock_that_is_right(folder: Path, hands: Hands, events: Events) -> None:
    senders = hands.senders(folder, events, written=time.time())
    senders.look()
    assert senders.doubt is None
    assert not events.all("clock-wrong")


@pytest.mark.parametrize("now", ENDS_OF_TIME)
def test_a_clock_that_cannot_be_right_keeps_no_host_out(folder: Path, hands: Hands, now: float) -> None:
    """At any time: who is enrolled comes in, who is revoked or a stranger does not."""
    authority, events = Authority.load(folder), Events()
    good, bad = papers.enrolled(authority, "good"), papers.enrolled(authority, "bad")
    senders = hands.senders(folder, events)
    authority.revoke(senders.admit(papers.der(bad.certificate)).fingerprint)
    hands.wall[0] = now
    senders.look()
    identity = senders.admit(papers.der(good.certificate))
    assert (identity.role, identity.name) == (Role.HOST, "good")
    with pytest.raises(RevokedError):
        senders.admit(papers.der(bad.certificate))
    with pytest.raises(CertificateError, match="needs a client certificate"):
        senders.admit(None)
    reason = str(events.wait("clock-wrong")["reason"])
    assert reason == senders.doubt
    assert "the collector's authority" in reason
    assert "set it (chrony" in reason
    with pytest.raises(CertificateError):  # readers, operators, who renews: their dates are judged
        authority.admit(papers.der(good.certificate), now)


def test_a_clock_that_may_be_right_judges_the_end_of_a_certificate(folder: Path, hands: Hands, events: Events) -> None:
    bundle = papers.enrolled(Authority.load(folder), "old")
    senders = hands.senders(folder, events)
    hands.wall[0] += 2 * YEAR + DAY
    with pytest.raises(CertificateError, match=r"old expired at .* enroll again"):
        senders.admit(papers.der(bundle.certificate))
    assert not events.all("clock-wrong")


def test_a_certificate_made_later_than_now_shows_that_the_clock_is_behind(
    folder: Path, hands: Hands, events: Events
) -> None:
    senders = hands.senders(folder, events)
    ahead = time.time() + 300 * DAY
    bundle = papers.enrolled(Authority.load(folder), "young", now=ahead)
    senders.look()
    assert senders.doubt is None
    assert senders.admit(papers.der(bundle.certificate)).name == "young"
    assert "the certificate of young, made here, is good from" in str(events.wait("clock-wrong")["reason"])
    senders.admit(papers.der(bundle.certificate))  # and says so once
    assert len(events.all("clock-wrong")) == 1
    # Until it is so late, or a restart: what else has been seen since is no evidence that the clock is right.
    again = papers.enrolled(Authority.load(folder), "young")
    senders.admit(papers.der(again.certificate))
    senders.look()
    assert "(if so, enroll that host again, and restart the collector)" in str(senders.doubt)
    assert hands.senders(folder, events).doubt is None
    hands.wall[0] = ahead
    senders.look()
    assert len(events.all("clock-right")) == 1
    assert senders.doubt is None


def test_a_folder_written_to_later_than_now(folder: Path, hands: Hands, events: Events) -> None:
    senders = hands.senders(folder, events, written=hands.wall[0] + SLACK_S - 10)
    senders.look()
    assert senders.doubt is None  # put back a little, which clocks may be
    hands.wall[0] -= 20
    senders.look()
    assert "folder was last written to at" in str(senders.doubt)
    assert "(if so, `touch` it, `dumps` and `index.sqlite` in it, and restart the collector)" in str(senders.doubt)


def test_it_is_said_for_as_long_as_it_lasts(folder: Path, hands: Hands, events: Events) -> None:
    senders = hands.senders(folder, events)
    right, hands.wall[0] = hands.wall[0], 0
    for seconds, said in ((0, 1), (SAY_S - 1, 1), (1, 2), (SAY_S, 3)):
        hands.steady[0] += seconds
        senders.look()
        assert len(events.all("clock-wrong")) == said
    hands.wall[0] = right
    for _ in range(2):
        senders.look()
    assert len(events.all("clock-right")) == 1


def test_where_the_certificate_cannot_be_read(folder: Path, hands: Hands, events: Events) -> None:
    senders = hands.senders(folder, events)
    (folder / "pki" / "collector.crt").write_text("rubbish")
    for _ in range(2):
        senders.look()
    assert senders.doubt is None  # it is the file that is wrong
    assert len(events.all("clock-unchecked")) == 1
    assert "collector.crt" in str(events.all("clock-unchecked")[0]["reason"])
    bundle = papers.enrolled(Authority.load(folder), "old")
    hands.wall[0] += 3 * YEAR
    with pytest.raises(PkiError) as raised:  # not the host's fault: it may come back
        senders.admit(papers.der(bundle.certificate))
    assert not isinstance(raised.value, CertificateError)


def test_last_written(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path, seconds in ((old, 10), (new, 20)):
        path.touch()
        os.utime(path, (seconds, seconds))
    assert last_written([new, old, tmp_path / "none"]) == 20
    assert last_written([tmp_path / "none"]) == 0


def test_revocations_that_cannot_be_read_are_told_of(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup may leave out a folder that is empty; nobody is let in then."""
    monkeypatch.setattr(upkeep, "LOOK_S", HASTE_S)
    (folder / "pki" / "revoked").rmdir()
    with Rig(folder) as rig:
        failed = rig.events.wait("upkeep-failed")
        assert failed["what"] == "the revocations"
        assert rig.collector.status.startswith("NOT LOOKED AFTER: the revocations: ")
        with Host(rig, web1) as host:
            error = host.hear()
            assert isinstance(error, wire.Error)
            assert error.code is wire.ErrorCode.INTERNAL
        (folder / "pki" / "revoked").mkdir()
        rig.events.wait("upkeep-works")
        assert rig.collector.status == rig.collector.ready
