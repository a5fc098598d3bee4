"""Every vector of the store, read by netdump.store and the reference decoder; every rule of store.md, shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.store.findings import Damage
from netdump.store.recovery import follow_manifest, recover
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from tests.protocol.generate_store import FOLDER, SUFFIX, generate
from tests.protocol.vector_file import Vector, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PROSE = (ROOT / "protocol" / "store.md").read_text("utf-8")
VECTORS = {path.stem: parse(path.stem, path.read_text("ascii")) for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
GOOD = sorted(name for name, vector in VECTORS.items() if vector.expect == "ok")
BAD = sorted(set(VECTORS) - set(GOOD))


def dump_id(vector: Vector) -> str:
    (found,) = vector.words("id")
    return found


def files_of(vector: Vector) -> dict[str, bytes]:
    """The files of the folder by name."""
    files: dict[str, bytes] = {}
    for line in vector.words("text"):
        name, _, text = line.partition(" ")
        files[name] = str(json.loads(text)).encode()
    for line in vector.words("file"):
        name, _, digits = line.partition(" ")
        files[name] = files.get(name, b"") + bytes.fromhex("" if digits == "-" else digits)
    return files


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a dump that can be read."""

    complete: bool
    durable: tuple[int, int, str]
    image: bytes
    totals: Mapping[str, int]


def expected(vector: Vector) -> Reading:
    (complete,) = vector.words("complete")
    (durable,) = vector.words("durable")
    offset, chunks, chain = durable.split(" ")
    totals = {name: int(count) for name, count in (line.split(" ") for line in vector.words("total"))}
    return Reading(
        complete == "yes", (int(offset), int(chunks), chain), bytes.fromhex("".join(vector.words("image"))), totals
    )


def stored(vector: Vector) -> MemoryFiles:
    memory = MemoryFiles()
    memory.make_folder(dump_id(vector))
    memory.make_folder(f"{dump_id(vector)}/segments")
    for name, content in files_of(vector).items():
        memory.create(f"{dump_id(vector)}/{name}").write(content)
    return memory


def test_the_files_are_what_the_generator_writes() -> None:
    assert {name: vector.text() for name, vector in generate().items()} == {
        name: (FOLDER / f"{name}{SUFFIX}").read_text("ascii") for name in VECTORS
    }
    assert len(GOOD) > 40
    assert len(BAD) > 60


@pytest.mark.parametrize("name", GOOD)
def test_a_good_dump(name: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    wanted, memory = expected(vector), stored(vector)
    dump = Store(tmp_path, memory).dump(dump_id(vector))
    report = dump.verify()
    assert [finding.file for finding in report.findings] == vector.words("unsound"), report.findings
    assert {finding.damage for finding in report.findings} <= {Damage.NOT_SOUND}
    manifest = dump.manifest
    if manifest is None:
        recovery = recover(memory, dump.id, dump.origin.image_bytes)
    else:
        recovery = follow_manifest(memory, manifest)
        assert {state: getattr(manifest.totals, state) for state in wanted.totals} == wanted.totals
    assert [link.info.name for link in recovery.links] == vector.words("use")
    durable = recovery.durable
    assert (durable.offset, durable.chunks, durable.chain.hex()) == wanted.durable
    assert dump.complete == wanted.complete
    if wanted.image:
        assert dump.reassemble(tmp_path / "image").path.read_bytes() == wanted.image


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_dump(name: str) -> None:
    vector = VECTORS[name]
    findings = Store(Path("dumps"), stored(vector)).dump(dump_id(vector)).verify().findings
    assert {finding.damage for finding in findings} == {vector.expect}, findings
    assert {finding.file for finding in findings} == set(vector.words("damaged")), findings


@pytest.mark.parametrize("name", GOOD)
def test_a_writer_goes_on_where_the_vector_says(name: str) -> None:
    """Recovery by the writer, which also cleans up: what counts stays, and a later reader finds the same."""
    vector = VECTORS[name]
    memory = stored(vector)
    store = Store(Path("dumps"), memory)
    with store.open_writer(store.dump(dump_id(vector)).origin) as writer:
        durable = writer.durable
        assert (durable.offset, durable.chunks, durable.chain.hex()) == expected(vector).durable
    assert store.dump(dump_id(vector)).verify().ok
    assert store.dump(dump_id(vector)).durable == durable


# The second implementation

REFEREE = """
import json, sys
from pathlib import Path
import store
from segments import DamagedError
for line in sys.stdin:
    folder = Path(line.strip())
    try:
        dump = store.read_dump(folder)
        with (folder.parent / (folder.parent.name + ".image")).open("x+b") as image:
            totals = store.restore(dump, image)
    except (DamagedError, OSError) as error:
        print(json.dumps({"damaged": str(error)}))
        continue
    end = [dump.end.offset, dump.end.chunks, dump.end.chain.hex()]
    print(json.dumps({"complete": dump.complete, "end": end, "totals": totals}))
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, object], bytes]]:
    """What the reference decoder says of each vector, and the image it restores."""
    base = tmp_path_factory.mktemp("vectors")
    for name, vector in VECTORS.items():
        folder = base / name / dump_id(vector)
        (folder / "segments").mkdir(parents=True)
        for file, content in files_of(vector).items():
            (folder / file).write_bytes(content)
    lines = "".join(f"{base / name / dump_id(vector)}\n" for name, vector in VECTORS.items())
    reference = ROOT / "protocol" / "reference"
    answer = subprocess.run(
        [sys.executable, "-c", REFEREE], input=lines, cwd=reference, capture_output=True, text=True, check=True
    )
    said = [json.loads(line) for line in answer.stdout.splitlines()]
    images = [base / name / f"{name}.image" for name in VECTORS]
    return {
        name: (verdict, image.read_bytes() if image.exists() else b"")
        for name, verdict, image in zip(VECTORS, said, images, strict=True)
    }


@pytest.mark.parametrize("name", VECTORS)
def test_the_reference_decoder_agrees(name: str, verdicts: dict[str, tuple[dict[str, object], bytes]]) -> None:
    vector = VECTORS[name]
    said, image = verdicts[name]
    if vector.expect != "ok":
        assert "damaged" in said
        return
    wanted = expected(vector)
    assert said == {
        "complete": wanted.complete,
        "end": list(wanted.durable),
        "totals": said["totals"],
    }
    totals = said["totals"]
    assert isinstance(totals, dict)
    assert {state: totals.get(state, 0) for state in wanted.totals} == wanted.totals
    assert image == wanted.image


# The prose

RULES = re.findall(r"^- \[(S-\d\d)\]", PROSE, re.MULTILINE)


def test_rules_are_numbered_once_and_in_order() -> None:
    assert sorted(set(RULES)) == RULES
    assert len(RULES) > 15


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_shown(rule: str) -> None:
    """By a vector, or by a test that cites it."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    cited = {rule for vector in VECTORS.values() for rule in vector.rules}
    for path in [*tests, ROOT / "netdump" / "testing" / "store_contract.py"]:
        cited.update(re.findall(r"S-\d\d", path.read_text("utf-8")))
    assert rule in cited


def test_classes_of_damage_are_those_of_the_page() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([a-z-]+)` \|", page.partition("## Classes of damage")[2], re.MULTILINE))
    assert named == {str(damage) for damage in Damage} - {Damage.UNREADABLE, Damage.VMCORE}
    assert named == {vector.expect for vector in VECTORS.values()} - {"ok"}


@pytest.mark.parametrize(
    ("title", "size"), [("A header of 72 bytes", 72), ("The table has one entry", 64), ("The trailer", 96)]
)
def test_tables_fill_their_place(title: str, size: int) -> None:
    text = PROSE[PROSE.index(title) :]
    rows = re.search(r"\|---.*\n((?:\|.*\n)+)", text)
    assert rows
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]
    end = 0
    for cell in cells:
        assert int(cell[0]) == end
        end += 0 if cell[1] == "…" else int(cell[1])
    assert end == size
