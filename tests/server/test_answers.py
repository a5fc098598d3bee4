"""Answers: every error has a status that says whose fault it is."""

from __future__ import annotations

import inspect
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from netdump import errors
from netdump.errors import NetdumpError, ProtocolError, TooManyRequestsError
from netdump.server.answers import PIECE_BYTES, STATUS, Answer, error_answer, json_answer, status_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

ERRORS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, NetdumpError) and not issubclass(kind, ProtocolError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_can_be_answered(kind: type[NetdumpError]) -> None:
    answer = error_answer(kind("what happened"))
    assert json.loads(bytes(answer.body)) == {"error": {"code": kind.code, "message": "what happened"}}
    assert HTTPStatus(answer.status_code).value >= 400
    assert answer.headers["cache-control"] == "no-store"


def test_subclasses_stand_before_their_bases() -> None:
    for place, (kind, _) in enumerate(STATUS):
        assert not any(issubclass(kind, earlier) for earlier, _ in STATUS[:place])


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("not-found", 404),
        ("ambiguous-id", 409),
        ("busy", 409),
        ("storage", 503),
        ("damaged", 500),
        ("index", 500),
        ("token", 403),
        ("revoked", 403),
        ("forbidden", 403),
        ("signing-request", 400),
        ("bad-request", 400),
        ("rate-limited", 429),
        ("internal", 500),
    ],
)
def test_statuses(code: str, status: int) -> None:
    (kind,) = (kind for kind in ERRORS if kind.code == code)
    assert status_of(kind("x")) == status


def test_a_status_may_be_another() -> None:
    assert error_answer(NetdumpError("x"), 405).status_code == 405


def test_when_to_come_back() -> None:
    assert error_answer(TooManyRequestsError("x")).headers["retry-after"] == "60"


def test_objects() -> None:
    answer = json_answer({"a": None})
    assert bytes(answer.body) == b'{"a":null}'
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 1])
async def test_long_answers_go_out_piece_by_piece(size: int) -> None:
    """The next one is asked for when the one before is nearly read: so whoever reads slowly is seen to."""
    body = bytes(range(256)) * (size // 256 + 1)
    said: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError

    await Answer(body[:size])({"type": "http"}, receive, send)
    start, *pieces = said
    assert (b"content-length", b"%d" % size) in start["headers"]
    assert b"".join(piece.get("body", b"") for piece in pieces) == body[:size]
    assert max(len(piece.get("body", b"")) for piece in pieces) <= PIECE_BYTES
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
