"""The collector's own certificate: another one is taken at once, and its end is told of in time."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import pytest

from netdump.errors import PkiError
from netdump.pki import collector_certificate, init_authority, reissue_collector
from netdump.pki.certificates import AUTHORITY_LIFE, COLLECTOR_LIFE
from netdump.server import owncertificate, upkeep
from netdump.server.owncertificate import AUTHORITY_NOTICE, NOTICE, SAY_S, CertificateWatch
from netdump.testing.sample_dump import SampleDump
from tests.server.rig import HASTE_S, Events, Host, Papers, Rig

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.pki import OwnCertificate

DAY = 86_400
LIFE, AUTHORITY = COLLECTOR_LIFE.total_seconds(), AUTHORITY_LIFE.total_seconds()
SOON, AUTHORITY_SOON = NOTICE.total_seconds(), AUTHORITY_NOTICE.total_seconds()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (-50 * 365 * DAY, None),  # a clock in 1976
        (0, None),
        (LIFE - SOON - DAY, None),
        (LIFE - SOON + DAY, "the collector's certificate ends on {last}: run `netdump renew --collector {folder}`"),
        (LIFE + DAY, "the collector's certificate ended on {last}, unless the clock is wrong: run `netdump renew"),
        (AUTHORITY - AUTHORITY_SOON + DAY, "the collector's authority ends on {authority}, and with it all"),
        (AUTHORITY + DAY, "the collector's authority ended on {authority}, unless the clock is wrong, and with it all"),
    ],
)
def test_what_is_said_at_which_age(folder: Path, events: Events, age: float, said: str | None) -> None:
    made = time.time()
    watched = CertificateWatch(folder, events, clock=lambda: made + age)
    watched.contexts()
    assert watched.look() is None
    if said is None:
        assert watched.ending is None
        assert not events.all("certificate-ending")
    else:
        dates = {"last": LIFE, "authority": AUTHORITY}
        texts = {name: time.strftime("%Y-%m-%d", time.gmtime(made + life)) for name, life in dates.items()}
        assert str(watched.ending).startswith(said.format(folder=folder, **texts))
        assert events.wait("certificate-ending")["reason"] == watched.ending


def test_it_is_said_daily_until_there_is_another(folder: Path, events: Events) -> None:
    made, steady = time.time(), [1000.0]
    watched = CertificateWatch(folder, events, clock=lambda: made + LIFE - DAY, steady=lambda: steady[0])
    watched.contexts()
    for seconds, said in ((0, 1), (SAY_S - 1, 1), (1, 2), (SAY_S, 3)):
        steady[0] += seconds
        assert watched.look() is None
        assert len(events.all("certificate-ending")) == said
    reissue_collector(folder, ["new.example"], now=made + LIFE - DAY)
    contexts = watched.look()
    assert contexts is not None
    assert sorted(contexts) == ["api", "ingest"]
    assert watched.ending is None
    assert events.wait("certificate-taken")["names"] == "new.example"
    assert watched.look() is None


def test_one_that_is_as_old_as_the_authority_is_not_to_be_renewed(tmp_path: Path, events: Events) -> None:
    then = time.time() - 15 * 365 * DAY
    init_authority(tmp_path, ["localhost"], now=then)
    reissue_collector(tmp_path, ["localhost"])
    watched = CertificateWatch(tmp_path, events, clock=lambda: then + AUTHORITY - DAY)
    watched.look()
    assert "authority ends" in str(watched.ending)
    assert "renew" not in str(watched.ending)


def test_one_that_cannot_be_used(folder: Path, events: Events) -> None:
    """A certificate of another key: the older one stays."""
    watched = CertificateWatch(folder, events)
    watched.contexts()
    other = folder.parent / "other"
    init_authority(other, ["other.example"])
    path = folder / "pki" / "collector.crt"
    right = path.read_bytes()
    path.write_bytes((other / "pki" / "collector.crt").read_bytes())
    for _ in range(2):
        with pytest.raises(PkiError, match="restore both from one backup"):
            watched.look()
    for content in (b"damaged", None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PkiError):
            watched.look()
    path.write_bytes(right)
    assert watched.look() is None  # it is shown already


def test_one_whose_key_comes_a_minute_later(folder: Path, events: Events) -> None:
    """Put back from a backup file by file, with a look in between."""
    watched = CertificateWatch(folder, events)
    watched.contexts()
    other = folder.parent / "other"
    init_authority(other, ["other.example"])
    (folder / "pki" / "collector.crt").write_bytes((other / "pki" / "collector.crt").read_bytes())
    with pytest.raises(PkiError):
        watched.look()
    (folder / "pki" / "collector.key").write_bytes((other / "pki" / "collector.key").read_bytes())
    assert watched.look() is not None
    assert events.wait("certificate-taken")["names"] == "other.example"


def test_one_that_comes_while_it_looks(folder: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = CertificateWatch(folder, events)
    watched.contexts()

    def late(directory: Path) -> OwnCertificate:
        own = collector_certificate(directory)
        reissue_collector(directory, ["new.example"])
        monkeypatch.undo()
        return own

    monkeypatch.setattr(owncertificate, "collector_certificate", late)
    assert watched.look() is None
    assert watched.look() is not None
    assert events.wait("certificate-taken")["names"] == "new.example"


def test_a_key_that_is_gone_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would: what was loaded is shown, and each host waits for a receipt that cannot be signed."""
    monkeypatch.setattr(upkeep, "LOOK_S", HASTE_S)
    key = folder / "pki" / "collector.key"
    with Rig(folder) as rig:
        key.rename(folder / "elsewhere")
        # It may go while it is looked at: then OpenSSL says that a file is missing, and not which one.
        assert str(key.parent) in str(rig.events.wait("upkeep-failed")["reason"])
        assert rig.collector.status.startswith("NOT LOOKED AFTER: the collector's certificate: ")
        (folder / "elsewhere").rename(key)
        rig.events.wait("upkeep-works")
        assert rig.collector.status == rig.collector.ready


@pytest.mark.parametrize("name", ["ca.key", "issued", "tokens"])
def test_that_nobody_can_renew_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Else it shows when the certificates of the fleet end, a year later."""
    monkeypatch.setattr(upkeep, "LOOK_S", HASTE_S)
    needed = folder / "pki" / name
    with Rig(folder) as rig:
        needed.rename(folder / "elsewhere")
        assert str(needed) in str(rig.events.wait("upkeep-failed")["reason"])
        assert rig.collector.status.startswith("NOT LOOKED AFTER: enrolment and renewal: ")
        (folder / "elsewhere").rename(needed)
        rig.events.wait("upkeep-works")
        assert rig.collector.status == rig.collector.ready


def test_a_running_collector_shows_another_without_a_restart(
    folder: Path, web1: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", HASTE_S)
    dump = SampleDump(seed=7, image_bytes=200_000)
    with Rig(folder) as rig:
        with Host(rig, web1) as before:
            reissue_collector(folder, ["localhost", "127.0.0.1", "new.example"])
            assert rig.events.wait("certificate-taken")["names"] == "localhost, 127.0.0.1, new.example"
            before.send_all(dump)  # a connection that there was is none the worse
        with Host(rig, web1) as after:
            assert "new.example" in {name for _, name in shown(after.socket)}
        for address in (rig.ingest, rig.api):
            pem = ssl.get_server_certificate((address.host, address.port), ca_certs=str(folder / "pki" / "ca.crt"))
            assert pem.strip() == (folder / "pki" / "collector.crt").read_text().strip()


def test_the_status_line_tells(folder: Path, web1: Papers) -> None:
    late = time.time() + LIFE - DAY
    with Rig(folder, clock=lambda: late) as rig:
        rig.events.wait("certificate-ending")
        assert rig.collector.status.startswith("A CERTIFICATE ENDS: the collector's certificate ends on ")
        assert rig.collector.status.endswith(f"; {rig.collector.ready}")


def shown(sock: ssl.SSLSocket) -> tuple[tuple[str, str], ...]:
    certificate = sock.getpeercert()
    assert certificate is not None
    return certificate["subjectAltName"]  # type: ignore[return-value]
