"""The authority: one-time tokens, renewal, revocation; and nothing but files behind them."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netdump.errors import (
    AlreadyExistsError,
    BadNameError,
    CertificateError,
    DamagedError,
    NameMismatchError,
    NotACollectorError,
    PkiError,
    RevokedError,
    SigningRequestError,
    StorageFaultError,
    TokenError,
)
from netdump.pki import Authority, Issue, Role, durable, init_authority, make_token, peer_identity, reissue_collector
from netdump.pki.certificates import load_certificate, load_key, new_key
from netdump.pki.identity import certificate_digest, fingerprint
from netdump.pki.ledger import Ledger
from netdump.pki.request import make_request
from netdump.pki.token import TokenBook, parse_token
from tests.pki import papers
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

YEAR = 365 * 86400


def token_files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "pki" / "tokens").iterdir())


def test_init(folder: Path, authority: Authority) -> None:
    place = folder / "pki"
    assert sorted(path.name for path in place.iterdir()) == [
        "ca.crt", "ca.key", "collector.crt", "collector.key", "issued", "revoked", "tokens",
    ]  # fmt: skip
    for path in [place, *place.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert [path.name for path in folder.iterdir()] == ["pki"]
    assert authority.collector_names() == NAMES
    certificate = load_certificate((place / "ca.crt").read_bytes(), "it")
    assert authority.ca_fingerprint == certificate_digest(certificate)
    assert authority.ca_pem == (place / "ca.crt").read_text()


def test_init_never_replaces_an_authority(folder: Path) -> None:
    before = (folder / "pki" / "ca.key").read_bytes()
    with pytest.raises(AlreadyExistsError, match="lock out every host"):
        init_authority(folder, NAMES)
    assert (folder / "pki" / "ca.key").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["pki"]


@pytest.mark.parametrize("names", [[], ["*.example.com"], ["good.example", "bad name"]])
def test_init_checks_names_first(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(BadNameError):
        init_authority(tmp_path / "collector", names)
    assert not (tmp_path / "collector").exists()


def test_init_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFaultError, match="cannot make"):
        init_authority(tmp_path / "file" / "collector", NAMES)


def test_a_failed_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageFaultError):
        init_authority(tmp_path, NAMES)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        init_authority(tmp_path, NAMES)
    assert not list(tmp_path.iterdir())


def test_a_new_authority_is_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "collector"
    synced: list[Path] = []

    def note(path: Path, sync: Callable[[Path], None] = durable.sync_folder) -> None:
        sync(path)
        if (directory / "pki").exists():
            synced.append(path)

    monkeypatch.setattr(durable, "sync_folder", note)
    init_authority(directory, NAMES)
    assert synced == [directory, tmp_path]


def test_two_inits_at_once_make_one_authority(tmp_path: Path) -> None:
    start = threading.Barrier(4)
    outcomes: list[str] = []

    def attempt() -> None:
        start.wait()
        try:
            init_authority(tmp_path, NAMES)
        except AlreadyExistsError:
            outcomes.append("refused")
        else:
            outcomes.append("made")

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "refused", "refused", "refused"]
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]
    assert papers.enrolled(Authority.load(tmp_path), "web1").name == "web1"


def test_not_a_collector(tmp_path: Path) -> None:
    for call in (lambda: Authority.load(tmp_path), lambda: make_token(tmp_path, "web1", Role.HOST)):
        with pytest.raises(NotACollectorError):
            call()
    with pytest.raises(NotACollectorError):
        reissue_collector(tmp_path, NAMES)


@pytest.mark.parametrize("role", list(Role))
def test_a_token_becomes_a_certificate(folder: Path, authority: Authority, role: Role) -> None:
    token = make_token(folder, "web1.example", role)
    assert parse_token(token).ca_digest == authority.ca_fingerprint
    key = new_key()
    issue = authority.redeem(papers.secret_of(token), make_request(key, "web1.example"))
    assert (issue.name, issue.role, issue.ca) == ("web1.example", role, authority.ca_pem)
    identity = peer_identity(papers.der(issue.certificate))
    assert (identity.role, identity.name, identity.fingerprint) == (role, "web1.example", fingerprint(key.public_key()))
    (record,) = authority.issued().certificates
    assert (record.role, record.name, record.fingerprint, record.pem) == (
        role, "web1.example", identity.fingerprint, issue.certificate,
    )  # fmt: skip


def test_the_certificate_contains_only_what_we_decide(authority: Authority) -> None:
    key = new_key()
    wanted = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "web1"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Evil"),
            ]
        )
    )
    wanted = wanted.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    wanted = wanted.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    request = wanted.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    issue = authority.redeem(papers.secret_of(authority.make_token("web1", Role.HOST)), request)
    certificate = load_certificate(issue.certificate, "it")
    assert certificate.subject.rfc4514_string() == "CN=web1,O=netdump"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [papers.CLIENT]


def test_good_once_in_every_process(folder: Path, authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    authority.redeem(secret, make_request(new_key()))
    for again in (authority, Authority.load(folder)):
        with pytest.raises(TokenError) as caught:
            again.redeem(secret, make_request(new_key()))
        assert caught.value.detail == "token for host web1 was used before"
        assert "web1" not in str(caught.value)


def test_two_requests_at_the_same_instant(authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    requests = [make_request(new_key()) for _ in range(8)]
    start = threading.Barrier(8)
    outcomes: list[Issue | TokenError] = []

    def attempt(request: str) -> None:
        start.wait()
        try:
            outcomes.append(authority.redeem(secret, request))
        except TokenError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    issues = [outcome for outcome in outcomes if isinstance(outcome, Issue)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, TokenError)]
    assert (len(issues), len(refusals)) == (1, 7)
    assert len({str(refusal) for refusal in refusals}) == 1
    assert [each.pem for each in authority.issued().certificates] == [issues[0].certificate]


def test_a_bad_request_leaves_the_token_good(folder: Path, authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    with pytest.raises(SigningRequestError):
        authority.redeem(secret, "nonsense")
    with pytest.raises(NameMismatchError):
        authority.redeem(secret, make_request(new_key(), "web2"))
    assert token_files(folder) == [".json"]
    assert authority.redeem(secret, make_request(new_key())).name == "web1"


def test_no_token_is_lost_when_the_authority_cannot_sign(folder: Path, authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    key = folder / "pki" / "ca.key"
    key.rename(folder / "elsewhere")
    with pytest.raises(PkiError, match=r"ca\.key is missing"):
        authority.redeem(secret, make_request(new_key()))
    (folder / "elsewhere").rename(key)
    assert authority.redeem(secret, make_request(new_key()))


CALLS = ("open", "fchown", "write", "fsync", "replace", "rename", "unlink", "close")


def fault_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the number-th (from 0) of the calls by which files are written fail. Returns the calls that were made."""
    made: list[str] = []

    def failing(name: str, real: Callable[..., object], *arguments: object, **options: object) -> object:
        made.append(name)
        if len(made) <= number or len(made) > number + 1:
            return real(*arguments, **options)
        if name == "close":  # close(2) gives the descriptor up even when it reports an error
            real(*arguments, **options)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    for name in CALLS:
        monkeypatch.setattr(os, name, partial(failing, name, getattr(os, name)))
    return made


def test_no_token_is_lost_to_a_fault_of_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call fails: there is a certificate, or nothing but a token that is good."""
    authority = Authority.load(folder)
    for number in itertools.count():
        secret = papers.secret_of(authority.make_token("web1", Role.HOST))
        with monkeypatch.context() as patch:
            made = fault_at(patch, number)
            try:
                authority.redeem(secret, make_request(new_key()))
            except StorageFaultError as error:
                assert "quota" in str(error)  # noqa: PT017
            else:
                made.append("a certificate")
        if made[-1] == "a certificate":
            with pytest.raises(TokenError):
                authority.redeem(secret, make_request(new_key()))
        else:
            assert authority.redeem(secret, make_request(new_key()))
        if len(made) <= number:
            break
    assert set(made) >= {"write", "fsync", "replace", "rename"}


def test_tokens_end_by_our_clock(authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST, 60, now=time.time()))
    with pytest.raises(TokenError) as caught:
        authority.redeem(secret, make_request(new_key()), now=time.time() + 61)
    assert "expired" in caught.value.detail


def test_names_of_newcomers_are_checked(authority: Authority) -> None:
    for name in ("", "a/b", "web1\n", "*"):
        with pytest.raises(BadNameError):
            authority.make_token(name, Role.HOST)


def test_a_token_of_another_collector(authority: Authority, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    secret = papers.secret_of(make_token(tmp_path / "other", "web1", Role.HOST))
    with pytest.raises(TokenError) as caught:
        authority.redeem(secret, make_request(new_key()))
    assert "no such token" in caught.value.detail


def test_enrolling_again_keeps_the_older_key(authority: Authority) -> None:
    first, second = papers.enrolled(authority, "web1"), papers.enrolled(authority, "web1")
    for bundle in (first, second):
        assert authority.admit(papers.der(bundle.certificate)).name == "web1"
    assert len(authority.issued().certificates) == 2


def test_admission(authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1")
    identity = authority.admit(papers.der(bundle.certificate))
    with pytest.raises(CertificateError, match="needs a client certificate"):
        authority.admit(None)
    with pytest.raises(CertificateError):
        authority.admit(b"nonsense")
    assert authority.revoke(identity.fingerprint)
    with pytest.raises(RevokedError, match=identity.fingerprint[:16]):
        authority.admit(papers.der(bundle.certificate))


def test_admission_by_date(authority: Authority) -> None:  # [W-04]
    shown = papers.der(papers.enrolled(authority, "web1").certificate)
    certificate = x509.load_der_x509_certificate(shown)
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    for now in (start, end):
        assert authority.admit(shown, now).name == "web1"
    with pytest.raises(CertificateError, match="not valid before"):
        authority.admit(shown, start - 1)
    with pytest.raises(CertificateError, match="expired at"):
        authority.admit(shown, end + 1)


def test_revocation_is_seen_by_others_at_once(folder: Path, authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1")
    running = Authority.load(folder)
    key = running.admit(papers.der(bundle.certificate)).fingerprint
    assert not running.is_revoked(key)
    assert [each.fingerprint for each in authority.revoke_name("web1", Role.HOST)] == [key]
    assert running.is_revoked(key)


def test_revoking_a_name(authority: Authority) -> None:
    mine = [papers.enrolled(authority, "web1") for _ in range(3)]
    others = [papers.enrolled(authority, "web2"), papers.enrolled(authority, "web1", Role.ANALYST)]
    assert len(authority.revoke_name("web1", Role.HOST)) == 3
    assert authority.revoke_name("web1", Role.HOST) == []
    for bundle in mine:
        with pytest.raises(RevokedError):
            authority.admit(papers.der(bundle.certificate))
    for bundle in others:
        authority.admit(papers.der(bundle.certificate))
    # The name itself may come back, with a new key.
    authority.admit(papers.der(papers.enrolled(authority, "web1").certificate))


def test_revoking_a_name_among_damaged_records(folder: Path, authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1")
    (folder / "pki" / "issued" / ("ab" * 32 + ".1.json")).write_bytes(b"damaged")
    with pytest.raises(DamagedError, match="1 keys of web1 are revoked now, but 1 records are damaged") as caught:
        authority.revoke_name("web1", Role.HOST)
    assert "ab" * 32 in str(caught.value)
    with pytest.raises(RevokedError):
        authority.admit(papers.der(bundle.certificate))


def test_a_revoked_key_does_not_come_back(authority: Authority) -> None:
    key = new_key()
    authority.revoke(fingerprint(key.public_key()))
    with pytest.raises(RevokedError):
        authority.redeem(papers.secret_of(authority.make_token("web1", Role.HOST)), make_request(key))
    with pytest.raises(RevokedError):
        authority.renew(papers.der(papers.enrolled(authority, "web1").certificate), make_request(key))


def test_another_authority_takes_a_restart(folder: Path, authority: Authority, tmp_path: Path) -> None:
    authority.check_issuing()
    init_authority(tmp_path / "first", NAMES)  # and this is to be a second collector of that authority
    for name in ("ca.key", "ca.crt"):
        (folder / "pki" / name).write_bytes((tmp_path / "first" / "pki" / name).read_bytes())
    reissue_collector(folder, NAMES)
    with pytest.raises(PkiError, match=r"ca\.crt is another authority's .*: restart it"):
        authority.check_issuing()
    Authority.load(folder).check_issuing()


def test_a_clock_that_begins_in_1970(tmp_path: Path) -> None:
    init_authority(tmp_path, NAMES, now=60)
    authority = Authority.load(tmp_path)
    papers.enrolled(authority, "web1", now=120)
    assert authority.issued().damaged == ()
    assert [each.name for each in authority.revoke_name("web1", Role.HOST, now=180)] == ["web1"]


def test_renewal(authority: Authority) -> None:
    old = papers.enrolled(authority, "web1", Role.ANALYST)
    key = new_key()
    issue = authority.renew(papers.der(old.certificate), make_request(key))
    identity = peer_identity(papers.der(issue.certificate))
    assert (issue.name, issue.role) == (identity.name, identity.role) == ("web1", Role.ANALYST)
    assert identity.fingerprint == fingerprint(key.public_key())
    assert authority.admit(papers.der(old.certificate)).name == "web1"
    assert len(authority.issued().certificates) == 2


def test_renewal_puts_a_certificate_on_record_that_is_not(folder: Path, authority: Authority) -> None:
    """As after a loss of the folder of which the authority was left, and at a second collector."""
    old = papers.enrolled(authority, "web1")
    (record,) = (folder / "pki" / "issued").iterdir()
    before = record.read_bytes()
    record.unlink()
    new = authority.renew(papers.der(old.certificate), make_request(new_key()))
    assert len(authority.issued().certificates) == 2
    authority.renew(papers.der(new.certificate), make_request(new_key()))
    assert len(authority.issued().certificates) == 3
    assert len(authority.revoke_name("web1", Role.HOST)) == 3
    for certificate in (old.certificate, new.certificate):
        with pytest.raises(RevokedError):
            authority.admit(papers.der(certificate))
    assert len(record.read_bytes()) == len(before)


def test_no_renewal_gets_past_a_revocation(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is revoked at each step of a renewal: no key of it is welcome afterwards."""
    steps = [(Ledger, "is_revoked"), (Ledger, "record")]
    for number, (owner, name) in enumerate((*steps, *steps)):
        host, old = f"web{number}", papers.enrolled(authority, f"web{number}")
        with monkeypatch.context() as patch:
            deed = partial(authority.revoke_name, host, Role.HOST)
            _intrude(patch, owner, name, after=number >= len(steps), deed=deed)
            with suppress(RevokedError):
                authority.renew(papers.der(old.certificate), make_request(new_key()))
        mine = [each for each in authority.issued().certificates if each.name == host]
        assert mine
        assert all(each.revoked for each in mine)


def test_no_revocation_misses_a_renewal(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    old = papers.enrolled(authority, "web1")
    renewed: list[Issue] = []

    def renew() -> None:
        renewed.append(authority.renew(papers.der(old.certificate), make_request(new_key())))

    with monkeypatch.context() as patch:
        _intrude(patch, Ledger, "survey", after=True, deed=renew)  # it has not revoked a key yet
        revoked = authority.revoke_name("web1", Role.HOST)
    assert len(renewed) == 1
    assert len(revoked) == 2
    with pytest.raises(RevokedError):
        authority.admit(papers.der(renewed[0].certificate))


def test_no_redemption_gets_past_a_withdrawal(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `netdump revoke --tokens` does, at each step of a redemption."""
    steps = [(TokenBook, "find"), (TokenBook, "consume"), (Ledger, "record")]
    for number, (owner, name) in enumerate((*steps, *steps)):
        host = f"web{number}"
        secret = papers.secret_of(authority.make_token(host, Role.HOST))

        def withdraw(host: str = host) -> None:
            authority.withdraw_tokens(host, Role.HOST)
            authority.revoke_name(host, Role.HOST)

        issue = None
        with monkeypatch.context() as patch:
            _intrude(patch, owner, name, after=number >= len(steps), deed=withdraw)
            with suppress(TokenError):
                issue = authority.redeem(secret, make_request(new_key()))
        if issue is not None:
            with pytest.raises(RevokedError):
                authority.admit(papers.der(issue.certificate))
        assert not [each for each in authority.issued().certificates if each.name == host and not each.revoked]


def _intrude(patch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool, deed: Callable[[], object]) -> None:
    """Let somebody else do a deed before or after the first call of a method."""
    method = getattr(owner, name)

    def watched(*arguments: object) -> object:
        patch.setattr(owner, name, method)
        if not after:
            deed()
        found = method(*arguments)
        if after:
            deed()
        return found

    patch.setattr(owner, name, watched)


def test_renewal_is_for_the_same_name_and_another_key(authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1")
    presented = papers.der(bundle.certificate)
    with pytest.raises(NameMismatchError):
        authority.renew(presented, make_request(new_key(), "web2"))
    with pytest.raises(SigningRequestError, match="new key"):
        authority.renew(presented, make_request(load_key(bundle.key, "it")))
    with pytest.raises(SigningRequestError):
        authority.renew(presented, "nonsense")


def test_renewal_ends_with_the_certificate(authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1")
    authority.renew(papers.der(bundle.certificate), make_request(new_key()), now=time.time() + 2 * YEAR - 60)
    with pytest.raises(CertificateError, match="enroll again"):
        authority.renew(papers.der(bundle.certificate), make_request(new_key()), now=time.time() + 2 * YEAR + 60)


def test_renewal_is_not_for_strangers_or_the_revoked(authority: Authority, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    stranger = papers.enrolled(Authority.load(tmp_path / "other"), "web1")
    with pytest.raises(CertificateError, match="not issued by this collector"):
        authority.renew(papers.der(stranger.certificate), make_request(new_key()))
    bundle = papers.enrolled(authority, "web1")
    authority.revoke_name("web1", Role.HOST)
    with pytest.raises(RevokedError):
        authority.renew(papers.der(bundle.certificate), make_request(new_key()))


def test_withdrawn_tokens(authority: Authority) -> None:
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    assert authority.withdraw_tokens("web1", Role.HOST) == 1
    with pytest.raises(TokenError):
        authority.redeem(secret, make_request(new_key()))


def test_an_authority_that_has_ended_signs_nothing(tmp_path: Path) -> None:
    init_authority(tmp_path, NAMES, now=time.time() - 21 * YEAR)
    authority = Authority.load(tmp_path)
    secret = papers.secret_of(authority.make_token("web1", Role.HOST))
    with pytest.raises(CertificateError, match="make a new authority"):
        authority.redeem(secret, make_request(new_key()))
    assert token_files(tmp_path) == [".json"]
