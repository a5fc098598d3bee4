"""The table itself is compared with wire.md in tests/protocol/test_prose.py."""

from __future__ import annotations

import itertools

import pytest

from netdump.wire import TRANSITIONS, Defer, Error, ErrorCode, Receipt, Resume, Role, State
from netdump.wire._messages import TYPE_OF
from netdump.wire._states import allowed, following
from tests.wire.examples import EXAMPLES, RESUME


def test_the_other_role() -> None:
    assert Role.CLIENT.peer is Role.COLLECTOR
    assert Role.COLLECTOR.peer is Role.CLIENT


@pytest.mark.parametrize("state", State)
def test_the_lookups_are_the_table(state: State) -> None:
    for sender, message in itertools.product(Role, EXAMPLES):
        number = TYPE_OF[type(message)]
        rows = [row for row in TRANSITIONS if (row.state, row.sender, row.message) == (state, sender, number)]
        assert allowed(state, sender, number) == bool(rows)
        if isinstance(message, Resume):
            rows = [row for row in rows if row.headline == message.headline]
        assert following(state, sender, message) == (rows[0].following if rows else None)


def test_resume_branches() -> None:
    assert following(State.OPENED, Role.COLLECTOR, RESUME) is State.HEADLINE
    assert following(State.OPENED, Role.COLLECTOR, RESUME._replace(headline=True)) is State.STREAMING


def test_nothing_leaves_closed_and_everything_leads_there() -> None:
    assert not [row for row in TRANSITIONS if row.state is State.CLOSED]
    for state in set(State) - {State.CLOSED}:
        assert all(following(state, sender, Error(ErrorCode.INTERNAL)) is State.CLOSED for sender in Role)
    assert following(State.OPENED, Role.COLLECTOR, Defer(1)) is State.CLOSED
    assert following(State.FINISHING, Role.COLLECTOR, Receipt(b"", b"")) is State.CLOSED
