"""A kill, a power cut or a fault at every single operation: no promise is broken, and the dump goes on to its end."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from netdump.errors import BusyError, StorageFaultError
from netdump.store.store import Store
from netdump.testing.faulty_files import FaultyFiles, Moment, Stopped
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from tests.store.delivery import Delivery

ROOT = Path("dumps")
SAMPLE = SampleDump(seed=5, image_bytes=30_000, chunk_bytes=6_000)
VMCORE = f"{SAMPLE.origin.id}/vmcore"


def operations_of_a_delivery() -> list[str]:
    files = FaultyFiles(MemoryFiles())
    Delivery(SAMPLE, ROOT).session(files)
    return [operation.kind for operation in files.operations]


KINDS = operations_of_a_delivery()


def attempt(delivery: Delivery, files: FaultyFiles) -> StorageFaultError | None:
    """One session; the fault that ended it, if one did. Any other error goes through."""
    try:
        delivery.session(files)
    except StorageFaultError as fault:
        assert fault.retryable  # noqa: PT017 (a fault may, but need not, come)
        return fault
    return None


def finish(delivery: Delivery, memory: MemoryFiles) -> None:
    delivery.session(memory)
    delivery.check_result(memory)
    assert memory.content(VMCORE) == SAMPLE.image


def test_the_sample_is_worth_it() -> None:
    assert {"create", "write", "sync", "rename", "sync_folder", "close", "lock", "make_folder", "write_at"} <= set(
        KINDS
    )
    assert KINDS.count("rename") >= 6


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("power", ["stays", "cut", "cut and luck"])
def test_stopped_at_any_operation(moment: Moment, power: str) -> None:
    places = {  # what is after one operation is before the next
        Moment.BEFORE: range(len(KINDS)),
        Moment.IN_THE_MIDDLE: [number for number, kind in enumerate(KINDS) if kind in {"write", "write_at"}],
        Moment.AFTER: [len(KINDS) - 1],
    }
    for number in places[moment]:
        memory = MemoryFiles()
        files = FaultyFiles(memory)
        delivery = Delivery(SAMPLE, ROOT)
        files.stop(number, moment)
        with pytest.raises(Stopped):
            delivery.session(files)
        if power != "stays":
            memory.cut_power(Random(number) if power == "cut and luck" else None)
        finish(delivery, memory)


def test_stopped_again_and_again() -> None:
    for seed in range(100):
        random = Random(seed)
        memory = MemoryFiles()
        delivery = Delivery(SAMPLE, ROOT, chunks_per_segment=random.randint(1, 4))
        while True:
            files = FaultyFiles(memory)
            files.stop(random.randrange(2 * len(KINDS)), random.choice(list(Moment)))
            try:
                delivery.session(files)
                break
            except Stopped:
                if random.random() < 0.7:
                    memory.cut_power(Random(random.random()))
        memory.cut_power()
        finish(delivery, memory)


def test_a_fault_at_any_operation() -> None:
    """One error or the other; both of them at each are looked at by tests/crashes/disk_faults.py, at every landing."""
    for number in range(len(KINDS)):
        memory = MemoryFiles()
        files = FaultyFiles(memory)
        delivery = Delivery(SAMPLE, ROOT)
        files.fail(number, (errno.ENOSPC, errno.EIO)[number % 2])
        fault = attempt(delivery, files)
        assert fault is None or SAMPLE.origin.id in str(fault)
        # The same process goes on, on what it sees; then power goes, and all that was promised is still there.
        delivery.session(files)
        delivery.check_result(files)
        memory.cut_power(Random(number))
        finish(delivery, memory)


def test_a_fault_that_lasts() -> None:
    for number in range(0, len(KINDS), 3):
        memory = MemoryFiles()
        files = FaultyFiles(memory)
        delivery = Delivery(SAMPLE, ROOT)
        files.fail(number, errno.EIO, times=7)
        for _ in range(9):
            if attempt(delivery, files) is not None:
                memory.cut_power(Random(number))
        finish(delivery, memory)


def test_no_space_from_any_operation_on() -> None:
    for number in range(len(KINDS)):
        memory = MemoryFiles()
        files = FaultyFiles(memory)
        delivery = Delivery(SAMPLE, ROOT)
        files.fill_up(number)
        for _ in range(2):
            fault = attempt(delivery, files)
            if fault is not None:
                assert "make room" in str(fault)
                assert not [name for name in memory.all_names() if name.endswith(".partial")]
        files.make_room()
        delivery.session(files)
        memory.cut_power(Random(number))
        finish(delivery, memory)


DELIVER = """
import sys
from pathlib import Path
from netdump.store.intake import verify_chunk
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
sample = SampleDump(seed=5, image_bytes=400_000, chunk_bytes=9_000)
with Store(Path(sys.argv[1])).open_writer(sample.origin) as writer:
    for chunk in sample.cut(writer.durable.offset, 1):
        writer.append(chunk, len(verify_chunk(chunk)))
        print(writer.publish().offset, flush=True)
    sys.stdin.read()  # not before it is killed
"""


def test_a_process_that_is_really_killed(tmp_path: Path) -> None:
    sample = SampleDump(seed=5, image_bytes=400_000, chunk_bytes=9_000)
    store = Store(tmp_path / "dumps")
    acknowledged = 0
    for lines in (1, 5, 12):
        command = [sys.executable, "-c", DELIVER, str(tmp_path / "dumps")]
        root, pipe = Path(__file__).parents[2], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=root) as process:
            assert process.stdout is not None
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            with pytest.raises(BusyError):
                store.open_writer(sample.origin)
            process.kill()
        with store.open_writer(sample.origin) as writer:
            assert writer.durable.offset >= acknowledged
        assert store.dump(sample.origin.id).verify().ok
    restored = store.dump(sample.origin.id).reassemble(tmp_path / "image")
    assert restored.path.read_bytes() == sample.image[: restored.bytes]
