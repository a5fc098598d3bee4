"""Tokens: readable in one form only, good once, whoever tries and however often."""

from __future__ import annotations

import base64
import errno
import hashlib
import multiprocessing
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import DamagedError, PkiError, StorageFaultError, TokenError
from netdump.pki import Role
from netdump.pki.token import KEPT, REFUSAL, SECRET_BYTES, SLACK, TTL_MAX, TTL_MIN, Token, TokenBook, parse_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

NOW = 1_800_000_000
DIGEST = hashlib.sha256(b"an authority").hexdigest()


@pytest.fixture
def book(tmp_path: Path) -> TokenBook:
    return TokenBook(tmp_path)


def shown(secret: bytes) -> str:
    return Token(DIGEST, secret).secret_text()


def detail_of(book: TokenBook, secret: str, now: int = NOW) -> str:
    with pytest.raises(TokenError) as caught:
        book.find(secret, now)
    assert str(caught.value) == REFUSAL
    assert caught.value.detail.isprintable()
    return caught.value.detail


def test_layout() -> None:
    text = Token(DIGEST, b"0123456789abcdef").text()
    assert text.startswith("ndt1.")
    body = base64.urlsafe_b64decode(text.removeprefix("ndt1.") + "==")
    assert body == b"\x01" + bytes.fromhex(DIGEST) + b"0123456789abcdef"
    assert "=" not in text


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
@settings(derandomize=True, deadline=None)
def test_round_trip(digest: bytes, secret: bytes) -> None:
    token = Token(digest.hex(), secret)
    assert parse_token(token.text()) == token
    assert parse_token(f"  {token.text()}\n") == token


@given(st.text(max_size=200))
@settings(derandomize=True, deadline=None)
def test_any_text_is_a_token_or_a_token_error(text: str) -> None:
    for candidate in (text, "ndt1." + text):
        try:
            token = parse_token(candidate)
        except TokenError:
            continue
        assert token.text() == candidate.strip()


@given(st.integers(0, 70), st.characters())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_token_has_one_form(position: int, char: str) -> None:
    good = Token(DIGEST, b"0123456789abcdef").text()
    other = good[:position] + char + good[position + 1 :]
    try:
        token = parse_token(other)
    except TokenError:
        return
    assert (token == parse_token(good)) == (other.strip() == good)


@pytest.mark.parametrize(
    "text", ["", "ndt1.", "ndt2." + "A" * 66, "ndt1." + "A" * 65, "ndt1." + "A" * 67, "ndt1." + "A" * 10_000_000]
)
def test_malformed(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        parse_token(text)
    assert len(str(caught.value)) < 300


def test_a_token_of_a_later_version() -> None:
    body = base64.urlsafe_b64encode(b"\x02" + bytes(48)).decode().rstrip("=")
    with pytest.raises(TokenError, match="version 2"):
        parse_token("ndt1." + body)


def test_only_a_hash_is_kept(book: TokenBook, tmp_path: Path) -> None:
    secret = book.make(Role.HOST, "web1", 3600, NOW)
    assert len(secret) == SECRET_BYTES
    (path,) = tmp_path.iterdir()
    assert path.name == hashlib.sha256(secret).hexdigest() + ".json"
    content = path.read_bytes()
    for form in (secret, secret.hex().encode(), shown(secret).encode(), base64.b64encode(secret)):
        assert form not in content


def test_good_once(book: TokenBook, tmp_path: Path) -> None:
    secret = shown(book.make(Role.ANALYST, "ann", 3600, NOW))
    grant = book.find(secret, NOW)
    assert (grant.role, grant.name, grant.created, grant.expires) == (Role.ANALYST, "ann", NOW, NOW + 3600)
    assert book.find(secret, NOW) == grant
    book.consume(grant)
    with pytest.raises(TokenError) as caught:
        book.consume(grant)
    assert str(caught.value) == REFUSAL
    # A restarted collector knows it too.
    assert detail_of(TokenBook(tmp_path), secret) == "token for analyst ann was used before"


def test_expiry(book: TokenBook) -> None:
    secret = shown(book.make(Role.HOST, "web1", 60, NOW))
    assert book.find(secret, NOW + 59)
    assert "expired at 2027-01-15T08:01:00Z" in detail_of(book, secret, NOW + 60)


def test_a_token_that_was_made_while_the_clock_was_ahead(book: TokenBook) -> None:
    secret = shown(book.make(Role.HOST, "web1", 60, NOW))
    assert "made later than now" in detail_of(book, secret, NOW - SLACK - 1)
    book.find(secret, NOW - SLACK)
    book.find(secret, NOW)


def test_strangers_learn_nothing_and_the_log_everything(book: TokenBook, tmp_path: Path) -> None:
    assert "no such token" in detail_of(book, shown(b"\0" * 16))
    for junk in (
        "",
        "x",
        "../../../etc/passwd",
        "A" * 21 + "=",
        "A" * 21 + "B",
        "ä" * 22,
        "A" * 1_000_000,
        "\ud800" * 22,
        "A" * 21 + "\n",
    ):
        assert "malformed" in detail_of(book, junk)
    secret = book.make(Role.HOST, "web1", 60, NOW)
    path = tmp_path / (hashlib.sha256(secret).hexdigest() + ".json")
    path.write_bytes(path.read_bytes().replace(b"web1", b"web2"))
    assert "damaged" in detail_of(book, shown(secret))
    path.rename(path.with_suffix(".used"))
    assert "used before" in detail_of(book, shown(secret))


@pytest.mark.parametrize("ttl", [-1, 0, TTL_MIN - 1, TTL_MAX + 1])
def test_time_to_live_is_bounded(book: TokenBook, ttl: int, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="1 minute to 30 days"):
        book.make(Role.HOST, "web1", ttl, NOW)
    assert not list(tmp_path.iterdir())


def test_old_files_are_removed(book: TokenBook, tmp_path: Path) -> None:
    unused, used = (book.make(Role.HOST, "web1", 60, NOW) for _ in range(2))
    book.consume(book.find(shown(used), NOW))
    (tmp_path / ("ab" * 32 + ".json")).write_bytes(b"damaged")
    book.make(Role.HOST, "web1", 60, NOW + 60 + KEPT)
    assert len(list(tmp_path.iterdir())) == 4
    book.make(Role.HOST, "web1", 60, NOW + 61 + KEPT)
    assert "no such token" in detail_of(book, shown(used), NOW + 61 + KEPT)
    assert "no such token" in detail_of(book, shown(unused), NOW + 61 + KEPT)
    assert (tmp_path / ("ab" * 32 + ".json")).exists()


def test_an_old_file_that_cannot_be_removed(book: TokenBook, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    book.make(Role.HOST, "web1", 60, NOW)
    monkeypatch.setattr("pathlib.Path.unlink", unlink)
    with pytest.raises(StorageFaultError, match=r"cannot remove .*: Read-only file system"):
        book.make(Role.HOST, "web1", 60, NOW + 61 + KEPT)


def test_a_file_that_cannot_be_read_keeps_no_token_good(book: TokenBook, tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 64}.json").mkdir()  # as a disk that fails, or a file of root's
    mine = shown(book.make(Role.HOST, "web1", 60, NOW))
    with pytest.raises(StorageFaultError, match="cannot read"):
        book.withdraw(Role.HOST, "web1")
    assert "used before" in detail_of(book, mine)


def test_withdraw(book: TokenBook, tmp_path: Path) -> None:
    mine = [shown(book.make(Role.HOST, "web1", 60, NOW)) for _ in range(3)]
    others = [shown(book.make(Role.HOST, "web2", 60, NOW)), shown(book.make(Role.ANALYST, "web1", 60, NOW))]
    book.consume(book.find(mine[0], NOW))
    assert book.withdraw(Role.HOST, "web1") == 2
    for secret in mine:
        assert "used before" in detail_of(book, secret)
    for secret in others:
        assert book.find(secret, NOW)
    (tmp_path / ("ab" * 32 + ".json")).write_bytes(b"damaged")
    with pytest.raises(DamagedError, match="abab"):
        book.withdraw(Role.HOST, "web2")
    assert "used before" in detail_of(book, others[0])


def test_one_of_many_threads_wins(book: TokenBook) -> None:
    secret = shown(book.make(Role.HOST, "web1", 60, NOW))
    start = threading.Barrier(8)
    won: list[bool] = []

    def attempt() -> None:
        grant = book.find(secret, NOW)
        start.wait()
        try:
            book.consume(grant)
        except TokenError:
            won.append(False)
        else:
            won.append(True)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def redeem_all(folder: Path, secrets: Sequence[str], start: Barrier, report: Path) -> None:
    """Run in a process of its own: try to use up every token, the instant the others do."""
    book = TokenBook(folder)
    won = []
    for secret in secrets:
        start.wait(60)
        try:
            book.consume(book.find(secret, NOW))
        except TokenError:
            continue
        won.append(secret)
    report.write_text("\n".join(won))


def test_one_of_many_processes_wins(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    book = TokenBook(folder)
    secrets = [shown(book.make(Role.HOST, f"web{i}", 60, NOW)) for i in range(25)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start = context.Barrier(3)
    reports = [tmp_path / f"won.{i}" for i in range(3)]
    processes = [context.Process(target=redeem_all, args=(folder, secrets, start, report)) for report in reports]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    won = [line for report in reports for line in report.read_text().split()]
    assert sorted(won) == sorted(secrets)
    assert sorted({name.partition(".")[2] for name in os.listdir(folder)}) == ["used"]
