"""The points have their names, and a collector is killed at one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine.default import DefaultDialect

from netdump.index.index import Index
from netdump.index.place import NAME
from tests.campaign.failpoints import CAMPAIGN
from tests.campaign.frame import Budget, Tally, carry_out
from tests.crashes import failpoints
from tests.crashes.failing_serve import Points, watch_commits, what
from tests.index.test_record import FULL

if TYPE_CHECKING:
    from pathlib import Path


def test_names() -> None:
    dump = "0123456789abcdef" * 2
    names = [
        f"{dump}/segments/0000000000000000.seg.partial",
        f"{dump}/segments/0000000000000000-0000000000000001.seg",
        f"{dump}/manifest.json.partial",
        f"{dump}/headline",
        f"{dump}/segments",
        dump,
        "",
    ]
    assert [what(name) for name in names] == [
        "segment",
        "segment",
        "manifest",
        "headline",
        "segments",
        "dump",
        "store",
    ]


def test_a_point_that_is_not_wanted_does_nothing() -> None:
    with Points("ack.send.after").around("ack.receive"):
        pass


def test_a_commit_begins_behind_its_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the point before it the journal holds what the change would overwrite; after it the change is final."""
    monkeypatch.setattr(DefaultDialect, "do_commit", DefaultDialect.do_commit)  # put back in the end
    journal, seen = tmp_path / f"{NAME}-journal", []

    class Watched(Points):
        def pass_by(self, point: str) -> None:
            seen.append((point, journal.exists() and journal.stat().st_size > 0))

    with Index.open(tmp_path / NAME) as index:
        watch_commits(Watched(""))
        index.put(FULL)
    assert seen == [("index.commit.before", True), ("index.commit.after", False)]


def test_points_of_a_run_that_goes_on_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing new to look at once all points were: then `--more` looks at them again."""
    names = tuple(f"point {number}" for number in range(5))
    monkeypatch.setattr(failpoints, "points", lambda: names)
    monkeypatch.setattr(failpoints, "look_at_point", partial(failpoints.count_once, "named points"))
    first = carry_out(CAMPAIGN, Budget.of(60))
    again = carry_out(CAMPAIGN, Budget.of(60, seed=first.next_seed))
    counts = {"named points": 5, "named points there are": 5}
    assert first.tally.counts == again.tally.counts == again.after(first).tally.counts == counts


@pytest.mark.e2e
def test_killed_before_the_manifest_has_its_name() -> None:
    names = failpoints.points()
    assert {"ack.send.before", "index.commit.after", "segment.sync.before", "manifest.rename.before"} <= set(names)
    assert len(names) > 60
    tally = Tally()
    failpoints.look(names.index("manifest.rename.before"), tally)
    assert tally.counts == {"named points": 1}
