"""Which collector is tried when: with played connections and a played clock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from netdump.client.delivery import LOYALTY, STRIKES_MAX
from netdump.errors import (
    DeadlineError,
    DeclinedError,
    ImpostorError,
    LocalProtocolError,
    NetdumpError,
    RefusedError,
    RemoteProtocolError,
    SendError,
    SourceUnreadableError,
    UnreachableError,
)
from netdump.wire import Decline, DeclineCode, Defer, Error, ErrorCode
from tests.client.played import DONE, IMAGE, A, B, Play, Step, away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.client.session import LastWord


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(monkeypatch)


def test_who_waits_for_the_receipt_sees_that(play: Play) -> None:
    """A collector that looks through terabytes takes long, and there is no rate to be told."""
    with pytest.raises(DeadlineError, match="the deadline passed while a:1 looked through what it has"):
        play.run(a=[Step(DeadlineError("x"), durable=IMAGE.size, resumes=IMAGE.size, seconds=10)])
    assert "netdump: all of it is there, waiting for the receipt" in play.said.splitlines()


CUT = Step(UnreachableError("cut"), advanced=True, durable=5000)


def test_who_has_to_wait_for_a_turn_sees_that(play: Play) -> None:
    play.run(a=[Step(Defer(15, "later"), queues=12), Step(DONE, resumes=0, queues=6, seconds=10)])
    lines = [line.removeprefix("netdump: ") for line in play.said.splitlines()]
    assert lines == [
        "a:1 takes no pages yet",
        "waiting for a turn, 0:01 so far",
        "waiting for a turn, 0:06 so far",
        "waiting for a turn, 0:11 so far",
        "a:1 asks to come back in 0:15: later",
        "a:1 takes no pages yet",
        "waiting for a turn, 0:01 so far",
        "waiting for a turn, 0:06 so far",
        "a:1 begins at 0.0 MiB of 0.4 MiB",
    ]


def test_a_deadline_that_passes_in_the_queue(play: Play) -> None:
    with pytest.raises(DeadlineError, match="the deadline passed while other dumps came first at a:1"):
        play.run(a=[Step(DeadlineError("late"), queues=60)])


BEHIND = Step(None, durable=5000, behind=True, seconds=3)


def looking(play: Play, monkeypatch: pytest.MonkeyPatch, seconds: int) -> list[int]:
    """Catching up takes so many seconds, once. Returns the offsets up to which it is asked for."""
    asked: list[int] = []

    def catch_up(offset: int) -> Iterator[int]:
        asked.append(offset)
        for second in range(seconds if len(asked) == 1 else 0):
            play.now += 1
            yield second << 20

    monkeypatch.setattr(IMAGE, "catch_up", catch_up)
    return asked


def test_much_to_catch_up_with_is_looked_at_without_a_collector(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's fault: no failure of the collector, no patience lost, and the same one is asked at once."""
    asked = looking(play, monkeypatch, 600)
    outcome = play.run(a=[BEHIND, Step(DONE)], b=[away()], patience=100)
    assert outcome.address == A
    assert (play.order, asked, play.now) == ("aa", [5000], 1603)
    said = play.said
    assert "looked at 5.0 MiB of" in said
    assert "trying again" not in said


def test_a_deadline_that_passes_while_catching_up(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    looking(play, monkeypatch, 600)
    with pytest.raises(DeadlineError, match=r"while looking at what was sent before\. a:1 keeps"):
        play.run(a=[BEHIND], deadline=100)
    assert play.now == 1100


def test_the_first_collector_that_takes_it(play: Play) -> None:
    assert play.run(a=[Step(DONE)], b=[Step(DONE)]).address == A
    assert play.order == "a"


def test_the_next_is_tried_at_once(play: Play) -> None:
    assert play.run(a=[away()], b=[Step(DONE)]).address == B
    assert play.tried == [("a", 0), ("b", 0)]


def test_who_takes_long_to_fail_keeps_nobody_from_being_tried(play: Play) -> None:
    """By the time that one has failed, the other has waited long enough: two of three would be all that are tried."""
    play.run(a=[away(40)], b=[away(40)], c=[away(1), Step(DONE)])
    assert play.order == "abcabc"


def test_back_off_of_a_single_collector(play: Play) -> None:
    play.run(a=[away()] * 8 + [Step(DONE)])
    assert [time for _, time in play.tried] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]


def test_progress_resets_the_back_off(play: Play) -> None:
    play.run(a=[away(), away(), CUT, CUT, Step(DONE)])
    assert [time for _, time in play.tried] == [0, 0.5, 1.5, 2.0, 2.5]


def test_what_turns_out_durable_at_the_next_connection_is_progress_too(play: Play) -> None:
    """Each connection breaks before an acknowledgement comes; only the next RESUME tells that it brought something."""
    cuts = [Step(UnreachableError("cut"), resumes=offset, durable=offset) for offset in (0, 100, 200, 200, 300)]
    play.run(a=[*cuts, Step(DONE)])
    assert [time for _, time in play.tried] == [0, 0.5, 1.0, 1.5, 2.5, 3.0]


def test_going_back_is_said(play: Play) -> None:
    cuts = [Step(UnreachableError("cut"), resumes=offset, durable=offset) for offset in (2 << 20, 1 << 20)]
    play.run(a=[*cuts, Step(DONE)])
    assert "a:1 went back from 2.0 MiB to 1.0 MiB: sending that part again" in play.said


def test_no_frames_are_kept_with_an_error(play: Play) -> None:
    error = UnreachableError("cut")
    play.run(a=[Step(error, durable=1), Step(DONE)])
    assert (error.__traceback__, error.__context__) == (None, None)


def test_attempts_are_counted(play: Play) -> None:
    play.run(a=[CUT, away(), CUT, Step(DONE)])
    assert [hello.attempt for hello in play.hellos] == [0, 1, 2]
    assert {hello.dump_id for hello in play.hellos} == {IMAGE.dump_id}


def test_who_has_part_of_the_dump_is_kept_for_a_while(play: Play) -> None:
    play.run(a=[CUT, away()], b=[Step(DONE)])
    assert play.tried[-2:] == [("a", 31.5), ("b", 61.5)]


def test_nor_for_fewer_attempts_than_a_few(play: Play) -> None:
    play.run(a=[CUT, away(20)], b=[Step(DONE)])
    assert play.order == "a" * LOYALTY + "b"


def test_attempts_that_take_long_are_no_few(play: Play) -> None:
    """It answers, and says that it lives, but makes nothing durable any more."""
    stuck = Step(UnreachableError("nothing was acknowledged"), resumes=5000, durable=5000, seconds=600)
    play.run(a=[CUT, stuck], b=[Step(DONE)])
    assert play.tried == [("a", 0), ("a", 0.5), ("b", 600.5)]


def test_nor_for_most_of_the_time_that_is_left(play: Play) -> None:
    play.run(deadline=100, a=[CUT, away()], b=[Step(DONE)])
    assert play.tried[-2:] == [("a", 7.5), ("b", 15.5)]


def test_who_has_nothing_of_the_dump_is_not(play: Play) -> None:
    play.run(a=[Step(UnreachableError("it took no pages"), resumes=0, seconds=600)], b=[Step(DONE)])
    assert play.order == "ab"
    assert play.now == 1600


def test_nor_does_it_replace_who_has_part_of_it(play: Play) -> None:
    nothing = Step(UnreachableError("it took no pages"), resumes=0)
    play.run(a=[CUT, Step(Defer(100)), Step(DONE)], b=[nothing, Step(Defer(100))])
    assert play.tried[-1] == ("a", 100.5)


@pytest.mark.parametrize("busy", [[3], [3, 3], [15] * 3, [50]])
def test_a_short_wait_is_no_reason_to_begin_elsewhere(play: Play, busy: list[int]) -> None:
    """A collector that was started again asks for some seconds until it has looked at the segments of the dump."""
    play.run(a=[CUT, *(Step(Defer(seconds)) for seconds in busy), Step(DONE)], b=[Step(DONE)])
    assert set(play.order) == {"a"}


def test_but_many_of_them_are(play: Play) -> None:
    play.run(a=[CUT, Step(Defer(15))], b=[Step(DONE)])
    assert play.tried[-2:] == [("a", 45.5), ("b", 45.5)]


def test_the_second_keeps_it_once_it_has_taken_over(play: Play) -> None:
    play.run(a=[away()], b=[CUT, CUT, CUT, Step(DONE)])
    assert play.order == "abbbb"


def test_deferred_time_is_kept_and_used_for_others(play: Play) -> None:
    play.run(a=[Step(Defer(100, "busy")), Step(DONE)], b=[away()])
    assert play.tried[:2] == [("a", 0), ("b", 0)]
    assert play.tried[-1:] == [("a", 100)]
    assert "a:1 asks to come back in 1:40: busy" in play.said


def test_a_loyal_collector_that_defers_gives_way(play: Play) -> None:
    play.run(a=[CUT, Step(Defer(100)), Step(DONE)], b=[Step(DONE)])
    assert play.order == "aab"


def test_being_deferred_does_not_use_up_patience(play: Play) -> None:
    play.run(patience=60, a=[Step(Defer(1000)), Step(Defer(1000)), Step(DONE)])
    assert play.tried[-1] == ("a", 2000)


def test_back_off_leaves_a_last_attempt_before_the_deadline(play: Play) -> None:
    play.run(deadline=100, a=[away()] * 9 + [Step(DONE)])
    assert [time for _, time in play.tried][-3:] == [61.5, 91.5, 99.0]


def test_after_the_last_attempt_the_end_comes(play: Play) -> None:
    with pytest.raises(DeadlineError, match="no collector can be tried again before the deadline"):
        play.run(deadline=10, a=[away()])
    assert [time for _, time in play.tried] == [0, 0.5, 1.5, 3.5, 7.5, 9.0]


def test_deferred_beyond_the_deadline_ends_at_once(play: Play) -> None:
    with pytest.raises(DeadlineError, match=r"no collector can be tried again before the deadline \(a:1 asks to come"):
        play.run(deadline=300, a=[Step(Defer(1000))])
    assert play.now == 1000


DROPPING = [
    (Step(Decline(DeclineCode.NOT_OWNER)), DeclinedError, "another host's"),
    (Step(Decline(DeclineCode.QUOTA, "10 GiB")), DeclinedError, "raise the quota (10 GiB)"),
    (Step(Decline(99)), DeclinedError, "code 99"),
    (Step(Error(ErrorCode.NOT_ALLOWED)), RefusedError, "enroll it again"),
    (Step(Error(ErrorCode.NOT_ALLOWED, "revoked")), RefusedError, "a:1 does not let this host in: revoked."),
    (Step(Error(ErrorCode.BAD_FIELD, "no")), SendError, "failed the connection with bad-field: no"),
    (Step(ImpostorError("who?"), dialled=False), ImpostorError, "who?"),
    (Step(RefusedError("go"), dialled=False), RefusedError, "go"),
    (Step(RefusedError("go")), RefusedError, "go"),
]


@pytest.mark.parametrize(("step", "kind", "text"), DROPPING)
def test_dropped_for_this_run(play: Play, step: Step, kind: type[NetdumpError], text: str) -> None:
    with pytest.raises(kind) as caught:
        play.run(a=[step])
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert "dump 00112233 is not delivered" in str(caught.value)
    assert "the same command can be run again" in str(caught.value)
    assert play.order == "a"


@pytest.mark.parametrize(("step", "kind", "text"), DROPPING)
def test_others_go_on_without_the_dropped(play: Play, step: Step, kind: type[NetdumpError], text: str) -> None:
    # [W-39], [W-88]
    assert play.run(a=[step], b=[away(), away(), Step(DONE)]).address == B
    assert play.order == "abbb"


def test_a_connection_that_got_nothing_done_blames_its_way(play: Play) -> None:
    unheard = Error(ErrorCode.IDLE_TIMEOUT, "silent too long")
    lost = Step(UnreachableError("lost"))
    busy = Step(Error(ErrorCode.STORAGE, "disk full"))
    play.run(a=[away(), lost, CUT, busy, Step(unheard), Step(unheard, advanced=True), Step(DONE)])
    assert play.blamed == [False, True]


BACKED_OFF = [0, 0.5, 1.5, 3.5, 7.5, 15.5]


@pytest.mark.parametrize("code", [ErrorCode.STORAGE, ErrorCode.SHUTTING_DOWN, ErrorCode.IDLE_TIMEOUT])
def test_busy_collectors_are_asked_again(play: Play, code: ErrorCode) -> None:
    play.run(a=[Step(Error(code))] * 20 + [Step(DONE)])
    assert play.order == "a" * 21
    assert [time for _, time in play.tried][:6] == BACKED_OFF


BREACHES: list[LastWord | BaseException] = [
    RemoteProtocolError("bad-ack", "x"),
    LocalProtocolError("internal", "x"),
    Error(ErrorCode.BAD_DIGEST),
    Error(ErrorCode.INTERNAL),
]


@pytest.mark.parametrize("result", BREACHES)
def test_breaches_are_forgiven_a_few_times(play: Play, result: LastWord | BaseException) -> None:
    play.run(a=[Step(result)] * (STRIKES_MAX - 1) + [Step(DONE)])
    assert [time for _, time in play.tried] == BACKED_OFF[:STRIKES_MAX]
    with pytest.raises(NetdumpError) as caught:
        play.run(a=[Step(result)])
    assert play.order == "a" * (2 * STRIKES_MAX)
    if isinstance(result, NetdumpError):
        assert type(caught.value) is type(result)


def test_who_speaks_something_else_is_asked_again_a_few_times(play: Play) -> None:
    with pytest.raises(RemoteProtocolError, match="no TLS"):
        play.run(a=[Step(RemoteProtocolError("unexpected-message", "no TLS"), dialled=False)])
    assert play.order == "a" * STRIKES_MAX


@pytest.mark.parametrize("result", BREACHES)
def test_breaches_with_progress_between_them_are_chance(play: Play, result: LastWord | BaseException) -> None:
    play.run(a=[Step(result, advanced=True, durable=1)] * 20 + [Step(DONE)])


@pytest.mark.parametrize(("reason", "tries"), [("bad-root", 1), ("bad-ack", STRIKES_MAX)])
def test_a_breach_after_all_was_sent_is_final_only_if_the_root_is_another(play: Play, reason: str, tries: int) -> None:
    """[W-68]."""
    with pytest.raises(RemoteProtocolError) as caught:
        play.run(a=[Step(RemoteProtocolError(reason, "x"), finished=True)])
    assert caught.value.reason == reason
    assert play.order == "a" * tries


def test_two_senders_of_one_dump_do_not_fight_for_ever(play: Play) -> None:
    with pytest.raises(SendError, match="another process keeps sending dump 00112233: stop one of them"):
        play.run(a=[Step(Error(ErrorCode.FENCED), advanced=True, durable=1)])
    assert play.order == "a" * STRIKES_MAX


def test_patience_ends_with_the_last_reason(play: Play) -> None:
    with pytest.raises(UnreachableError, match=r"dump 00112233 is not delivered: away\. Nothing is lost"):
        play.run(patience=10, a=[away()])
    assert play.now == 1010


def test_patience_is_renewed_by_progress(play: Play) -> None:
    play.run(patience=10, a=[CUT, away(8), CUT, away(8), CUT, Step(DONE)])


def test_the_deadline_is_absolute(play: Play) -> None:
    with pytest.raises(DeadlineError, match=r"deadline has passed \(cut\)\. a:1 keeps 0\.0 MiB of 0\.4 MiB"):
        play.run(deadline=50, a=[CUT._replace(seconds=7.0)])
    assert play.now <= 1057


def test_a_deadline_inside_a_session(play: Play) -> None:
    with pytest.raises(DeadlineError, match=r"passed while sending\. a:1 keeps"):
        play.run(a=[Step(DeadlineError("x"), durable=5000)])


def test_no_wait_beyond_the_deadline(play: Play) -> None:
    with pytest.raises(DeadlineError):
        play.run(deadline=20, a=[away()])
    assert play.now <= 1020


def test_a_core_that_cannot_be_read_ends_the_run(play: Play) -> None:
    with pytest.raises(SourceUnreadableError):
        play.run(a=[Step(SourceUnreadableError("gone"))], b=[Step(DONE)])


def test_what_has_a_chance_counts_before_what_has_none(play: Play) -> None:
    with pytest.raises(UnreachableError, match="away; who"):
        play.run(patience=5, a=[Step(ImpostorError("who"), dialled=False)], b=[away()])


def test_all_dropped_ends_before_patience(play: Play) -> None:
    with pytest.raises(ImpostorError, match=re.compile("who.*b:2 declines", re.DOTALL)):
        play.run(a=[Step(ImpostorError("who"), dialled=False)], b=[Step(Decline(DeclineCode.QUOTA))])
    assert play.now == 1000


DECLINES = Step(Decline(DeclineCode.QUOTA))
REFUSES = Step(RefusedError("not in"), dialled=False)
FAILS = Step(Error(ErrorCode.INTERNAL))


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ((DECLINES, FAILS), SendError.exit_status),
        ((DECLINES, REFUSES), RefusedError.exit_status),
        ((REFUSES, FAILS), SendError.exit_status),
        ((DECLINES, REFUSES, FAILS), SendError.exit_status),
    ],
)
def test_of_several_that_are_dropped_the_one_that_may_recover_counts(
    play: Play, steps: tuple[Step, ...], status: int
) -> None:
    """The init of a capture kernel goes by the status: after declining it gives up, after a failure it does not."""
    for order in (steps, steps[::-1]):
        with pytest.raises(SendError) as caught:
            play.run(**{name: [step] for name, step in zip("abc", order, strict=False)})  # type: ignore[arg-type]
        assert caught.value.exit_status == status


IMPOSTOR = Step(ImpostorError("who?"), dialled=False)


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        ([IMPOSTOR], [0, 60]),
        ([REFUSES] * 2, [0, 60, 120]),
        ([FAILS] * (STRIKES_MAX + 1), [0, 0.5, 1.5, 3.5, 7.5, 67.5, 127.5]),
        ([Step(Error(ErrorCode.FENCED))] * STRIKES_MAX, [0, 0.5, 1.5, 3.5, 7.5, 67.5]),
    ],
)
def test_who_was_dropped_for_what_may_pass_is_tried_again(play: Play, steps: list[Step], times: list[float]) -> None:
    """The other one is away for good; alone it would have been tried by the next client of the init."""
    assert play.run(a=[away()], b=[*steps, Step(DONE)]).address == B
    assert [time for name, time in play.tried if name == "b"] == pytest.approx(times)


FINAL = [DECLINES, Step(Error(ErrorCode.NOT_ALLOWED)), Step(Error(ErrorCode.BAD_FIELD))]
OTHER_ROOT = Step(RemoteProtocolError("bad-root", "x"), finished=True)


@pytest.mark.parametrize("step", [*FINAL, OTHER_ROOT])
def test_who_was_dropped_for_good_is_not(play: Play, step: Step) -> None:
    # [W-39], [W-88]
    with pytest.raises(DeadlineError):
        play.run(deadline=600, a=[away()], b=[step, Step(DONE)])
    assert play.order.count("b") == 1


def test_a_fault_may_pass_while_the_other_one_is_not_to_be_asked(play: Play) -> None:
    assert play.run(a=[Step(Defer(4000))], b=[*[FAILS] * 9, Step(DONE)]).address == B


def test_but_who_refuses_is_not_waited_for_then(play: Play) -> None:
    with pytest.raises(DeadlineError, match="no collector can be tried again before the deadline"):
        play.run(a=[Step(Defer(4000))], b=[REFUSES])
    assert play.now == 1000


def test_who_was_dropped_has_a_last_attempt_too(play: Play) -> None:
    assert play.run(deadline=50, a=[away()], b=[IMPOSTOR, Step(DONE)]).address == B
    assert play.tried[-1] == ("b", 49)


PASSING = [[IMPOSTOR] * 3, [REFUSES] * 3, [FAILS] * STRIKES_MAX, [Step(RefusedError("go"))]]


@pytest.mark.parametrize("steps", PASSING)
def test_what_may_pass_is_no_reason_to_begin_elsewhere(play: Play, steps: list[Step]) -> None:
    """For a moment another machine answers at the address of who has most of the dump."""
    play.run(a=[CUT, *steps, Step(DONE)], b=[Step(DONE)])
    assert set(play.order) == {"a"}


@pytest.mark.parametrize("step", [IMPOSTOR, REFUSES, FAILS])
def test_it_is_if_it_does_not(play: Play, step: Step) -> None:
    play.run(a=[CUT, step], b=[Step(DONE)])
    assert play.tried[-2:] == [("a", 31.5), ("b", 61.5)]


@pytest.mark.parametrize("others", [{}, {"b": [DECLINES]}])
def test_nor_is_it_waited_for_where_there_is_nobody_else(play: Play, others: dict[str, list[Step]]) -> None:
    with pytest.raises(ImpostorError):
        play.run(**others, c=[CUT, IMPOSTOR])  # type: ignore[arg-type]
    assert play.now == pytest.approx(1000.5)
