"""The points have their names, and a collector is killed at one."""

from __future__ import annotations

import pytest

from tests.campaign.frame import Tally
from tests.crashes import failpoints
from tests.crashes.failing_serve import Points, what


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


@pytest.mark.e2e
def test_killed_before_the_manifest_has_its_name() -> None:
    names = failpoints.points()
    assert {"ack.send.before", "index.commit.after", "segment.sync.before", "manifest.rename.before"} <= set(names)
    assert len(names) > 60
    tally = Tally()
    failpoints.look(names.index("manifest.rename.before"), tally)
    assert tally.counts == {"named points": 1}
