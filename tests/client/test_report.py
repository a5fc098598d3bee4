from __future__ import annotations

from typing import Any

from netdump.client.address import Address
from netdump.client.delivery import Outcome
from netdump.client.report import Report
from netdump.client.tally import Tally
from netdump.pages import PageState
from tests.architecture.client_page import PAGE
from tests.client.pretend import PretendImage

IMAGE: Any = PretendImage(bytes(10 << 20))
OUTCOME = Outcome(Address("collector", 7461), bytes(range(32)), b"signed")


def tally(**fields: int) -> Tally:
    made = Tally()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_the_line_and_the_object_say_the_same() -> None:
    counted = tally(chunks=40, connections=2, wire_bytes=1234, raw_bytes=8000, data_bytes=3200, resent_bytes=99)
    counted.states[PageState.DATA] = (10 << 20) - 16384
    counted.states[PageState.LOST] = 4096
    counted.states[PageState.EXCLUDED] = 12288
    report = Report(IMAGE, "web1", OUTCOME, counted, 2.0)
    line = report.line()
    members = report.members()
    assert line.startswith(
        "dump 00112233 of web1 is complete at collector:7461: 10485760 bytes sent as 1234 (pages compressed 2.50 to 1)"
    )
    assert (
        "2.0 s (5.0 MiB/s), 99 bytes sent again, 4096 bytes could not be read and are marked lost, root 000102" in line
    )
    assert members["id"] == IMAGE.dump_id.hex()
    assert members["root"] == bytes(range(32)).hex()
    assert (members["wire_bytes"], members["resent_bytes"], members["lost_bytes"]) == (1234, 99, 4096)
    assert (members["excluded_bytes"], members["unfiltered"]) == (12288, None)
    assert (members["ratio"], members["seconds"], members["chunks"], members["connections"]) == (2.5, 2.0, 40, 2)
    assert (members["collector"], members["host"], members["state"]) == ("collector:7461", "web1", "complete")


def test_every_member_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for name in Report(IMAGE, "", OUTCOME, tally(), 0.0).members() if f"`{name}`" not in page] == []


def test_the_rest_of_a_dump() -> None:
    counted = tally(chunks=1, wire_bytes=7)
    counted.states[PageState.ZERO] = 5 << 20
    report = Report(IMAGE, "", OUTCOME, counted, 1.0)
    assert ": 5242880 of 10485760 bytes sent as 7 (pages compressed 1.00 to 1), 1.0 s (5.0 MiB/s)" in report.line()
    assert report.members()["sent_bytes"] == 5 << 20


def test_a_dump_that_was_there_already() -> None:
    line = Report(IMAGE, "", OUTCOME, tally(), 0.0).line()
    assert line.startswith("dump 00112233 is complete at collector:7461: it was already, nothing was sent; root 0001")


def test_nothing_lost_is_not_mentioned() -> None:
    assert "lost" not in Report(IMAGE, "", OUTCOME, tally(chunks=1), 0.0).line()
