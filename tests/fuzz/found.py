"""What coverage-guided fuzzing has come to: inputs that lead to new code, and a ledger of the work behind them.

Kept in the repository, so that each campaign starts where the one before has ended: of each target an archive
`found/TARGET.zip` of the smallest set of inputs that reaches all that was reached, and a line of `ledger.json`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

FOUND: Final = Path(__file__).parent / "found"
LEDGER: Final = Path(__file__).parent / "ledger.json"
ARCHIVE_BYTES_MAX: Final = 24 << 10  # of one target, before the archive's own headers: 27 of them stay below 1 MiB
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # equal inputs make equal archives


@dataclass(frozen=True)
class Work:
    """The work on one target. cpu_s: processor time. edges: of code, that its inputs reach; inputs: how many were
    tried; kept: of those, in the archive; findings: how many there were, mended or not."""

    cpu_s: int = 0
    inputs: int = 0
    edges: int = 0
    kept: int = 0
    findings: int = 0

    def more(self, cpu_s: float, inputs: int, findings: int) -> Work:
        """With the work of one more run."""
        return replace(
            self,
            cpu_s=self.cpu_s + round(cpu_s),
            inputs=self.inputs + inputs,
            findings=self.findings + findings,
        )


def load_ledger(path: Path = LEDGER) -> dict[str, Work]:
    """The work by target."""
    return {name: Work(**line) for name, line in json.loads(path.read_text()).items()} if path.exists() else {}


def save_ledger(ledger: dict[str, Work], path: Path = LEDGER) -> None:
    """One line a target, so that a change can be read."""
    lines = [f"{json.dumps(name)}: {json.dumps(asdict(work))}" for name, work in sorted(ledger.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def found(name: str, folder: Path = FOUND) -> list[bytes]:
    """The inputs kept for a target."""
    path = folder / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(each) for each in sorted(archive.namelist())]


def keep(name: str, inputs: Iterable[bytes], folder: Path = FOUND) -> int:
    """Put these inputs in the place of those kept for a target, the shortest first, as many as there is room for.

    Returns how many that were.
    """
    folder.mkdir(exist_ok=True)
    partial, kept = folder / f"{name}.zip.partial", 0
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for data in sorted(inputs, key=lambda data: (len(data), data)):
            entry = zipfile.ZipInfo(hashlib.sha256(data).hexdigest()[:16], _EPOCH)
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
            kept += 1
            if sum(each.compress_size for each in archive.infolist()) > ARCHIVE_BYTES_MAX:
                break
    partial.rename(folder / f"{name}.zip")
    return kept
