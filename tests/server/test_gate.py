"""Limits before TLS: in total and of one source, and nothing kept of who is gone."""

from __future__ import annotations

import pytest

from netdump.server.gate import Gate, GateLimits

LIMITS = GateLimits(connections=8, connections_per_source=6, handshakes=5, handshakes_per_source=4)


def test_gate_counts() -> None:
    gate = Gate(LIMITS)
    assert [gate.enter("a") for _ in range(5)] == [None] * 4 + ["handshakes-per-source"]
    assert [gate.enter("b") for _ in range(2)] == [None, "handshakes"]
    for _ in range(4):
        gate.shaken("a")
    assert [gate.enter("a") for _ in range(3)] == [None, None, "connections-per-source"]
    gate.shaken("a")
    assert [gate.enter("b") for _ in range(2)] == [None, "connections"]
    gate.leave("a")
    assert gate.enter("c") is None


def test_gate_forgets_who_is_gone() -> None:
    gate = Gate(LIMITS)
    gate.enter("a")
    gate.shaken("a")
    gate.leave("a")
    assert not gate._strangers
    assert not gate._handshakes
    with pytest.raises(AssertionError):
        gate.leave("a")


def test_gate_counts_known_peers_in_the_total_alone() -> None:
    gate = Gate(LIMITS)
    for _ in range(LIMITS.connections):
        assert gate.enter("a") is None
        gate.shaken("a")
        gate.vouch("a")
    assert gate.enter("b") == "connections"
    gate.leave(None)
    assert gate.enter("a") is None
    gate.shaken("a")
    gate.leave("a")
    for _ in range(LIMITS.connections - 1):
        gate.leave(None)
    with pytest.raises(AssertionError):
        gate.leave(None)
    assert not gate._strangers
