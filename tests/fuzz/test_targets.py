"""Every parser of foreign bytes, on sound inputs, on what once broke it, and on seeded damage to both."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.pages import ExcludeClass
from netdump.vmcore.elf import parse_headers
from netdump.vmcore.filter import open_filter
from netdump.vmcore.kernel import read_facts
from tests.fuzz import targets_core
from tests.fuzz.found import found
from tests.fuzz.mutation import mutated
from tests.fuzz.target import CORPUS, CPU_SECONDS_MAX, corpus, judge
from tests.fuzz.targets import TARGETS

# cryptography still takes certificates that RFC 5280 forbids, and says that it soon will not.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

SEED = int(os.environ.get("NETDUMP_SEED", "1"))
FACTOR = int(os.environ.get("NETDUMP_FUZZ_FACTOR", "1"))  # for campaigns: so many times the rounds


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    """Memory is measured where something may come of it: that takes five times as long as all the rest."""
    target, seeds = TARGETS[name], TARGETS[name].seeds()
    for data in (max(seeds, key=len), *corpus(target), b""):
        judge(target, data)
    begun, passed = time.process_time(), 0
    for data in seeds:
        with suppress(*target.errors):
            target.run(data)
            passed += 1
    for data in found(name):
        with suppress(*target.errors):
            target.run(data)
    assert time.process_time() - begun < 2 * CPU_SECONDS_MAX
    assert passed, "seeds that only raise would lead nowhere: at least one goes all the way"


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs(name: str) -> None:
    target = TARGETS[name]
    inputs = [*target.seeds(), *corpus(target)]
    random = Random(f"{SEED}/{name}")
    for number in range(target.rounds * FACTOR):
        data = mutated(random, inputs, target.bytes_max)
        try:
            judge(target, data)
        except BaseException as error:
            error.add_note(f"NETDUMP_SEED={SEED}, input {number} of {name}: {data[:200].hex()}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    """What hypothesis thinks of: it begins with the shortest, and shrinks what fails."""

    @settings(derandomize=True, deadline=None, max_examples=25 * FACTOR, database=None)
    @given(st.binary(max_size=64) | st.text(max_size=32).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def look(data: bytes) -> None:
        judge(TARGETS[name], data)

    look()


def test_the_corpus_belongs_to_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("name", targets_core._MACHINES)
def test_the_machines_of_the_filter_have_something_to_leave_out(name: str) -> None:
    ground = targets_core._ground(name)
    source = targets_core._Patched(ground, b"")
    headers = parse_headers(source.read, source.size)
    page_filter = open_filter(source, headers, read_facts(source, headers), 31)
    answer = page_filter.classify((ground.first + 4096) * 4096, 4096)
    assert {reason for reason, _ in answer} >= {ExcludeClass.FREE, ExcludeClass.USER, ExcludeClass.CACHE}
