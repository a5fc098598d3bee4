"""Vectors of connections: states, order, acknowledgement, credit, time (wire.md 4 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.crafted import CRITICAL, MIB, chunk_digest, fill, message, raw_field, raw_frame, root, table
from tests.protocol.script import (
    DECLINE,
    DEFER,
    EXAMPLES,
    FIRST,
    KEEPALIVE,
    REACHED,
    SECOND,
    SIZE,
    Script,
    ack,
    chain,
    chunk,
    chunk_values,
    closed,
    error,
    finish,
    finishing,
    headline,
    hello,
    large,
    opened,
    receipt,
    resume,
    streaming,
    wanted,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.protocol.crafted import Value
    from tests.protocol.vector_file import Vector

COST = MIB + 4096  # of a chunk with 1 MiB of raw data
PEERS = ("client", "collector")
# wire.md 5 once more: what may be sent in each state but CLOSED, beside ERROR
TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "OPENING": {"client": ("HELLO",), "collector": ()},
    "OPENED": {"client": (), "collector": ("RESUME", "DEFER", "DECLINE", "RECEIPT")},
    "HEADLINE": {"client": ("HEADLINE", "KEEPALIVE"), "collector": ("KEEPALIVE",)},
    "STREAMING": {"client": ("CHUNK", "KEEPALIVE", "FINISH"), "collector": ("ACK", "DEFER", "KEEPALIVE")},
    "FINISHING": {"client": ("KEEPALIVE",), "collector": ("ACK", "KEEPALIVE", "RECEIPT")},
}


def whole() -> Iterator[Vector]:
    """Connections from the first frame to the last."""
    full = Script().state("OPENING").client(hello()).state("OPENED").collector(resume()).state("HEADLINE")
    full.client(headline()).state("STREAMING").client(chunk(*FIRST)).collector(ack(500)).client(chunk(*SECOND))
    full.client(finish()).state("FINISHING").collector(ack(SIZE)).collector(receipt()).state("CLOSED")
    yield full.vector("whole", "W-40 W-65 W-67 W-68 W-82", "A dump of two chunks.", check="content")
    late = finishing().collector(receipt()).state("CLOSED")
    yield late.vector("whole-no-ack", "W-67", "RECEIPT may come without an ACK before it.", check="content")
    rest = opened().collector(resume(offset=500, chain=chain(FIRST), chunks=1, headline=1)).state("STREAMING")
    rest.client(chunk(*SECOND)).client(finish()).collector(receipt()).state("CLOSED")
    yield rest.vector("whole-resumed", "W-36 W-40 W-45 W-65", "The second half of a dump.", check="content")
    end = opened().collector(resume(offset=SIZE, chain=chain(FIRST, SECOND), chunks=2, headline=1))
    end.client(finish()).collector(receipt())
    yield end.vector(
        "whole-at-end", "W-36 W-65", "RESUME at the end of the image: only FINISH is due.", check="content"
    )
    bare = opened().collector(resume(offset=SIZE, chain=chain(FIRST, SECOND), chunks=2)).state("HEADLINE")
    bare.client(headline()).client(finish()).collector(receipt())
    yield bare.vector(
        "whole-at-end-headline", "W-40 W-65", "All chunks are there, the headline is not.", check="content"
    )
    known = opened().collector(receipt()).state("CLOSED")
    yield known.vector("whole-known", "W-67", "A complete dump is answered with RECEIPT.")
    yield opened().collector(DEFER).state("CLOSED").vector("whole-deferred", "W-38", "DEFER ends the connection.")
    asked = opened().collector(resume(credit=0)).state("HEADLINE").client(headline()).state("STREAMING")
    yield (
        asked.collector(DEFER)
        .state("CLOSED")
        .vector("whole-deferred-later", "W-37 W-38", "The headline is taken, the chunks are deferred.", check="content")
    )
    yield opened().collector(DECLINE).state("CLOSED").vector("whole-declined", "W-39", "DECLINE ends the connection.")
    again = (
        wanted().client(headline()).client(chunk(*FIRST)).say("end client cut").say("connect").client(hello(attempt=1))
    )
    again.collector(resume(offset=500, chain=chain(FIRST), chunks=1, headline=1)).client(chunk(*SECOND))
    again.client(finish()).collector(receipt())
    yield again.vector(
        "whole-cut", "W-30 W-31 W-36 W-76", "Cut after one chunk, resumed on a second connection.", check="content"
    )
    back = streaming().client(chunk(*FIRST)).say("end collector cut").say("connect").client(hello())
    back.collector(resume(headline=1)).client(chunk(0, 300)).client(chunk(300, 700))
    last = chain((0, 300), (300, 700))

    value = root(last, SIZE, 2)
    back.client(finish(root=value)).collector(receipt(root=value))
    yield back.vector(
        "whole-cut-back", "W-36 W-82", "Resumed before what was sent, with chunks cut elsewhere.", check="content"
    )


def states() -> Iterator[Vector]:
    """Every message that has no row, in every state; ERROR, which always has one."""
    for state, senders in TABLE.items():
        for sender in PEERS:
            for name, frame in EXAMPLES.items():
                if name not in senders[sender]:
                    rules = "W-62" if name == "KEEPALIVE" else "W-20" if name in ("CHUNK", "FINISH") else "W-40"
                    script = REACHED[state]().state(state).say(f"{sender} unexpected-message {frame.hex()}")
                    yield script.vector(
                        f"state-{state}-{sender}-{name}",
                        rules,
                        f"{name} from the {sender} in {state}.",
                        expect="unexpected-message",
                    )
            script = REACHED[state]().say(f"{sender} ok {error(15).hex()}").state("CLOSED")
            yield script.vector(f"state-{state}-{sender}-ERROR", "W-70", f"ERROR from the {sender} in {state}.")


def precedence() -> Iterator[Vector]:
    """The state goes before the payload, the header before the state."""
    noise = b"\xff" * 20
    early = Script().client(raw_frame(CRITICAL | 6, noise), "unexpected-message")
    yield early.vector(
        "first-state-then-syntax", "W-20", "A CHUNK with a senseless payload before HELLO.", expect="unexpected-message"
    )
    waiting = Script().client(raw_frame(CRITICAL | 5, b"", length=0x80_1000), "unexpected-message")
    yield waiting.vector(
        "first-state-then-payload",
        "W-20",
        "The header of a HEADLINE of 8 MiB before HELLO is refused without its payload.",
        expect="unexpected-message",
    )
    large_one = Script().client(raw_frame(CRITICAL | 6, b"", length=0x11_1001), "too-large")
    yield large_one.vector(
        "first-length-then-state", "W-20 W-13", "A CHUNK too large, before HELLO.", expect="too-large"
    )
    reserved = Script().client(raw_frame(CRITICAL | 6, noise, reserved=1), "bad-frame")
    yield reserved.vector(
        "first-reserved-then-state", "W-20", "Reserved set in a CHUNK before HELLO.", expect="bad-frame"
    )


def connected() -> Iterator[Vector]:
    """What a message is by itself goes before what depends on those before it, and that before its data."""
    right = chunk_values(*SECOND)
    runs = table([("data", 400, "none", 0)])
    for name, comment, change, slug, check in (
        ("runs-then-order", "A run table too short, at the wrong offset.", {"runs": runs}, "bad-field", "structure"),
        ("codec-then-order", "Stored data too short, at the wrong offset.", {"data": b""}, "bad-codec", "structure"),
        ("order-then-digest", "A wrong digest, at the wrong offset.", {"digest": bytes(32)}, "bad-order", "content"),
        ("order-then-zstd", "No zstd frame, at the wrong offset.", {"codec": 1}, "bad-order", "content"),
    ):
        script = streaming().client(message("CHUNK", {**right, **change}), slug)
        yield script.vector(f"first-{name}", "W-20", comment, expect=slug, check=check)
    both = message("CHUNK", {**right, "runs": runs, "data": b""})
    yield (
        streaming()
        .client(both, "bad-field")
        .vector("first-runs-then-codec", "W-20", "A run table and stored data too short.", expect="bad-field")
    )
    late = wide(64 * MIB).client(large(0)).client(large(2 * MIB), "bad-order")
    yield late.vector("first-order-then-credit", "W-20", "A gap, and more than the credit.", expect="bad-order")
    early = streaming().client(chunk(*FIRST)).client(finish(chunks=7), "bad-order")
    yield early.vector(
        "first-order-then-root", "W-20 W-65", "FINISH too early, with wrong numbers.", expect="bad-order"
    )


def unknown() -> Iterator[Vector]:
    """Unknown messages in every state, and what comes in CLOSED."""
    empty = raw_frame(0x7F00, b"")
    noise = raw_frame(0x7F00, b"\xff" * 100)
    for state in TABLE:
        script = REACHED[state]()
        for sender in PEERS:
            script.say(f"{sender} skipped {empty.hex()}").say(f"{sender} skipped {noise.hex()}")
        yield script.state(state).vector(
            f"unknown-{state}", "W-18 W-90", f"Unknown messages without critical in {state}; one has no fields inside."
        )
        refused = REACHED[state]().client(raw_frame(CRITICAL | 0x7F00, b""), "unknown-critical")
        yield refused.vector(
            f"unknown-critical-{state}", "W-18", f"An unknown critical message in {state}.", expect="unknown-critical"
        )
    after = closed()
    for frame in (
        raw_frame(CRITICAL | 0x7F00, noise),
        hello(),
        noise,
        raw_frame(CRITICAL | 1, b"", reserved=7),
        error(1),
    ):
        after.say(f"client ignored {frame.hex()}").say(f"collector ignored {frame.hex()}")
    yield (
        after.say("end client closed")
        .say("end collector closed")
        .vector("closed-ignored", "W-76 W-70", "Whatever comes in CLOSED is ignored.")
    )
    failed = streaming().client(error(15)).client(chunk(*FIRST), "ignored").state("CLOSED")
    yield failed.vector("closed-by-error", "W-70 W-76", "A chunk after ERROR is ignored.")
    for state in TABLE:
        for peer in PEERS:
            script = REACHED[state]().say(f"end {peer} cut")
            yield script.vector(f"cut-{state}-{peer}", "W-76", f"The stream of the {peer} ends in {state}.")


def order() -> Iterator[Vector]:
    """Where chunks and FINISH may stand."""
    for name, comment, frame, slug in (
        ("gap", "A chunk after a gap of one byte.", chunk(501, 499), "bad-order"),
        ("overlap", "A chunk that begins one byte early.", chunk(499, 501), "bad-order"),
        ("again", "The chunk before once more.", chunk(*FIRST), "bad-order"),
        ("beyond", "A chunk that ends one byte beyond the image.", chunk(500, 501), "bad-field"),
        ("finish", "FINISH before the last chunk.", finish(chunks=1), "bad-order"),
    ):
        script = streaming().client(chunk(*FIRST)).client(frame, slug)
        rule = "W-65" if name == "finish" else "W-45"
        yield script.vector(f"order-{name}", rule, comment, expect=slug)
    first = streaming().client(chunk(*SECOND), "bad-order")
    yield first.vector("order-first", "W-45", "The first chunk is not at RESUME's offset.", expect="bad-order")
    resumed = opened().collector(resume(offset=500, chain=chain(FIRST), chunks=1, headline=1))
    yield resumed.client(chunk(*FIRST), "bad-order").vector(
        "order-resumed", "W-45 W-36", "The first chunk is not at RESUME's offset, but at 0.", expect="bad-order"
    )
    full = streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).client(chunk(SIZE, 1), "bad-field")
    yield full.vector("order-after-last", "W-45", "A chunk after the end of the image.", expect="bad-field")
    yield (
        streaming()
        .client(finish(chunks=0), "bad-order")
        .vector("order-finish-at-once", "W-65", "FINISH without a chunk.", expect="bad-order")
    )
    for name, comment, frame in (
        ("chunks", "Another number of chunks.", finish(chunks=3)),
        ("image-bytes", "Another image_bytes.", finish(image_bytes=SIZE + 1)),
    ):
        script = streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).client(frame, "bad-root")
        yield script.vector(f"finish-{name}", "W-65", comment, expect="bad-root")
    counted = opened().collector(resume(offset=500, chain=chain(FIRST), chunks=1, headline=1))
    counted.client(chunk(*SECOND)).client(finish(chunks=1), "bad-root")
    yield counted.vector("finish-chunks-resumed", "W-65", "Chunks of this connection alone.", expect="bad-root")
    wrong = streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).client(finish(root=fill("wrong", 32)), "bad-root")
    yield wrong.vector("finish-root", "W-65 W-82", "A wrong root.", expect="bad-root", check="content")
    yield (
        finishing()
        .collector(receipt(root=fill("wrong", 32)), "bad-root")
        .vector("receipt-root", "W-68", "RECEIPT with another root than FINISH.", expect="bad-root")
    )


def fenced() -> Iterator[Vector]:
    """RESUME after another sender of the dump has gone on behind what was acknowledged."""

    def again() -> Script:
        script = streaming().client(chunk(*FIRST)).collector(ack(500)).client(chunk(500, 200)).client(chunk(700, 300))
        return script.collector(error(13)).say("connect").client(hello())

    there = chain(FIRST, (500, 300), (800, 200))
    other = again().collector(resume(offset=SIZE, chunks=3, chain=there, headline=1))
    value = root(there, SIZE, 3)
    other.client(finish(chunks=3, root=value)).collector(receipt(root=value))
    yield other.vector(
        "resume-fenced",
        "W-36 W-77",
        "Another chain value where the client has been, which another sender has fenced.",
        check="content",
    )
    known = again().collector(resume(offset=500, chunks=1, chain=fill("wrong", 32), headline=1), "bad-root")
    yield known.vector(
        "resume-fenced-acked",
        "W-36 W-77",
        "What was acknowledged before it was fenced is known.",
        expect="bad-root",
        check="content",
    )


def resumes() -> Iterator[Vector]:
    """RESUME against what the client knows."""
    beyond = opened().collector(resume(offset=SIZE + 1, chunks=1), "bad-field")
    yield beyond.vector("resume-beyond", "W-19", "An offset beyond the image.", expect="bad-field")
    other = streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).say("end collector cut").say("connect")
    other.client(hello()).collector(resume(offset=500, headline=1, chain=fill("wrong", 32), chunks=1), "bad-root")
    yield other.vector(
        "resume-chain",
        "W-36",
        "Another chain value at an offset that the client has passed.",
        expect="bad-root",
        check="content",
    )
    yield (
        opened()
        .collector(resume(chain=fill("wrong", 32)), "bad-root")
        .vector("resume-chain-start", "W-36", "Another chain(0).", expect="bad-root", check="content")
    )
    cut = streaming().client(chunk(0, 500)).say("end collector cut").say("connect").client(hello())
    cut.collector(resume(headline=1)).client(chunk(0, 250)).client(chunk(250, 250)).say("end collector cut")
    cut.say("connect").client(hello()).collector(
        resume(offset=500, chunks=2, chain=chain((0, 500)), headline=1), "bad-root"
    )
    yield cut.vector(
        "resume-chain-cut",
        "W-36",
        "The chain of one chunk at an offset reached by two.",
        expect="bad-root",
        check="content",
    )
    yield from fenced()
    digest = chunk_values(*FIRST) | {"digest": fill("wrong", 32)}

    wrong = streaming().client(message("CHUNK", digest), "bad-digest")
    yield wrong.vector("chunk-digest", "W-53", "A chunk with a wrong digest.", expect="bad-digest", check="content")
    broken = wanted().client(headline(raw_field(5, b"x")[:-1]), "bad-frame")
    yield broken.vector(
        "headline-document", "W-41", "A document that ends inside a field.", expect="bad-frame", check="content"
    )


def acks() -> Iterator[Vector]:
    """Which offsets may be acknowledged."""
    both = streaming().client(chunk(*FIRST)).client(chunk(*SECOND))
    yield (
        both.collector(ack(0))
        .collector(ack(500))
        .collector(ack(500))
        .collector(ack(SIZE))
        .vector("ack-each", "W-56", "RESUME's offset, the end of each chunk, and one of them twice.")
    )
    jump = streaming().client(chunk(*FIRST)).client(chunk(*SECOND)).collector(ack(SIZE))
    yield jump.vector("ack-jump", "W-56", "Two chunks at once.")
    for name, comment, offsets in (
        ("inside", "An offset inside a chunk.", (499,)),
        ("beyond-sent", "An offset that was not sent yet.", (SIZE,)),
        ("back", "Less than an earlier ACK.", (500, 0)),
        ("most", "The largest offset there is.", ((1 << 64) - 1,)),
    ):
        script = streaming().client(chunk(*FIRST))
        for offset in offsets[:-1]:
            script.collector(ack(offset))
        yield script.collector(ack(offsets[-1]), "bad-ack").vector(f"ack-{name}", "W-56", comment, expect="bad-ack")
    earlier = opened().collector(resume(offset=500, chain=chain(FIRST), chunks=1, headline=1)).client(chunk(*SECOND))
    yield earlier.collector(ack(0), "bad-ack").vector(
        "ack-before-resume", "W-56", "Less than RESUME's offset.", expect="bad-ack"
    )
    yield (
        finishing()
        .collector(ack(SIZE))
        .collector(ack(SIZE))
        .collector(receipt())
        .vector("ack-got-on", "W-56 W-69", "All of it acknowledged twice after FINISH.", check="content")
    )
    late = finishing().collector(ack(500)).collector(ack(499), "bad-ack")
    yield late.vector("ack-finishing", "W-56", "The rule holds after FINISH.", expect="bad-ack")


def credit() -> Iterator[Vector]:
    """How much may be unacknowledged. The image is large, its chunks have 1 MiB of raw data or none."""
    size = 64 * MIB
    full = wide(size).client(large(0)).client(large(MIB, 2 * MIB - 2 * 4096 - MIB))
    yield full.vector("credit-full", "W-57", "Two chunks whose cost is the credit exactly.")
    over = wide(size).client(large(0)).client(large(MIB, 2 * MIB - 2 * 4096 - MIB + 1), "credit-exceeded")
    yield over.vector("credit-one-more", "W-57", "One byte more than the credit.", expect="credit-exceeded")
    two = wide(size).client(large(0)).client(large(MIB), "credit-exceeded")
    yield two.vector("credit-two", "W-57", "Twice 1 MiB of raw data, and their floor.", expect="credit-exceeded")
    small = wide(size)
    for at in range(513):
        small.client(_none(at), "ok" if at < 512 else "credit-exceeded")
    yield small.vector(
        "credit-floor",
        "W-57",
        "Each chunk costs 4096 beside its data: 512 without data use up 2 MiB.",
        expect="credit-exceeded",
    )
    none = wide(size, credit=0).client(large(0), "credit-exceeded")
    yield none.vector("credit-none", "W-37 W-57", "RESUME without credit, and a chunk.", expect="credit-exceeded")
    granted = wide(size, credit=0).collector(ack(0, credit=2 * MIB)).client(large(0)).collector(ack(MIB))
    yield granted.vector("credit-granted", "W-37 W-57", "The credit comes with an ACK of RESUME's offset.")
    freed = (
        wide(size)
        .client(large(0))
        .collector(ack(MIB))
        .client(large(MIB))
        .collector(ack(2 * MIB))
        .client(large(2 * MIB))
    )
    yield freed.vector("credit-freed", "W-57", "An ACK frees the credit of what it acknowledges.")
    unfreed = wide(size).client(large(0)).collector(ack(0)).client(large(MIB), "credit-exceeded")
    yield unfreed.vector(
        "credit-not-freed", "W-57", "An ACK that acknowledges nothing frees nothing.", expect="credit-exceeded"
    )
    raised = wide(size).client(large(0)).collector(ack(0, credit=4 * MIB)).client(large(MIB)).client(large(2 * MIB))
    yield raised.vector("credit-raised", "W-57", "An ACK raises the credit to 4 MiB.")
    beyond = wide(size).client(large(0)).collector(ack(0, credit=4 * MIB)).client(large(MIB)).client(large(2 * MIB))
    beyond.client(large(3 * MIB), "credit-exceeded")
    yield beyond.vector("credit-raised-over", "W-57", "And not to more than that.", expect="credit-exceeded")


def lowered() -> Iterator[Vector]:
    """Lowered credit: the collector cannot know which chunks were sent before the client knew."""
    size = 64 * MIB

    def start() -> Script:
        """4 MiB of credit, lowered to 2 MiB when nothing has been acknowledged."""
        return wide(size, credit=4 * MIB).client(large(0)).collector(ack(0, credit=2 * MIB))

    old = start().client(large(MIB)).client(large(2 * MIB))
    yield old.vector("credit-lowered", "W-57", "Chunks up to the old credit may have been sent before the ACK arrived.")
    over = start().client(large(MIB)).client(large(2 * MIB)).client(large(3 * MIB), "credit-exceeded")
    yield over.vector(
        "credit-lowered-over", "W-57", "A chunk beyond the old credit was sent against both.", expect="credit-exceeded"
    )
    later = start().client(large(MIB)).client(large(2 * MIB)).collector(ack(3 * MIB)).client(large(3 * MIB))
    later.client(large(4 * MIB), "credit-exceeded")
    yield later.vector(
        "credit-lowered-later",
        "W-57",
        "Beyond the old credit the new one holds: 2 MiB from the last ACK.",
        expect="credit-exceeded",
    )


def _none(at: int) -> bytes:
    """A chunk without raw data: 4096 bytes that are lost."""

    runs = table([("lost", 4096, "none", 0)])
    digest = chunk_digest(at * 4096, 4096, runs, b"")
    values: dict[str, Value] = {
        "offset": at * 4096,
        "length": 4096,
        "runs": runs,
        "digest": digest,
        "codec": 0,
        "data": b"",
    }
    return message("CHUNK", values)


def times() -> Iterator[Vector]:
    """Keep-alive and deadlines; keepalive is 5, idle 15."""
    silent = Script().say("clock 9").say("timer collector nothing").say("clock 10").say("timer collector idle-timeout")
    yield silent.vector("time-no-hello", "W-75 W-61", "No HELLO in 10 seconds.", expect="idle-timeout")
    answer = Script().say("clock 4").client(hello()).say("clock 13").say("timer client nothing").say("clock 14")
    yield answer.say("timer client idle-timeout").vector(
        "time-no-answer", "W-75 W-61", "No answer in 10 seconds from HELLO.", expect="idle-timeout"
    )
    skipped = Script().say("clock 9").client(raw_frame(0x7F00, b""), "skipped").say("clock 10")
    yield skipped.say("timer collector idle-timeout").vector(
        "time-not-hello", "W-75", "An unknown message is not HELLO and wins no time.", expect="idle-timeout"
    )
    for peer, say in (("client", Script.client), ("collector", Script.collector)):
        other = PEERS[1 - PEERS.index(peer)]
        for state, script in (("HEADLINE", wanted()), ("STREAMING", streaming()), ("FINISHING", finishing())):
            script.say("clock 4").say(f"timer {peer} nothing").say("clock 5").say(f"timer {peer} keepalive")
            say(script, KEEPALIVE).say("clock 9").say(f"timer {peer} nothing").say("clock 10")
            say(script.say(f"timer {peer} keepalive"), KEEPALIVE).state(state)
            yield script.vector(f"time-keepalive-{state}-{peer}", "W-60", f"The {peer} has nothing to say in {state}.")
        dead = streaming().say("clock 5").say(f"timer {peer} keepalive")
        say(dead, KEEPALIVE).say("clock 10").say(f"timer {peer} keepalive")
        say(dead, KEEPALIVE).say("clock 14").say(f"timer {peer} nothing").say("clock 15").say(
            f"timer {peer} idle-timeout"
        )
        yield dead.vector(
            f"time-idle-{peer}", "W-61", f"The {other} has been silent for 15 seconds.", expect="idle-timeout"
        )
    busy = streaming().say("clock 4").client(chunk(*FIRST)).say("clock 8").say("timer client nothing").say("clock 9")
    yield (
        busy.say("timer client keepalive")
        .client(KEEPALIVE)
        .vector("time-keepalive-after-chunk", "W-60", "Any message counts: the chunk at 4 puts KEEPALIVE off to 9.")
    )
    heard = streaming().say("clock 14").collector(KEEPALIVE).say("clock 28").say("timer client keepalive")
    heard.client(KEEPALIVE).say("clock 29").say("timer client idle-timeout")
    yield heard.vector(
        "time-idle-after-keepalive", "W-61", "A KEEPALIVE at 14 puts the end off to 29.", expect="idle-timeout"
    )


def vectors() -> Iterator[Vector]:
    """All of this module."""
    for group in (whole, states, precedence, connected, unknown, order, resumes, acks, credit, lowered, times):
        yield from group()
