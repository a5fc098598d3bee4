"""What was loaded last, remembered until the machine stops: the kernel keeps an image but tells nobody which.

Owns one file on a tmpfs, which is gone at the next boot as the image is, and the lock that makes arming happen once at
a time. Holds no secret: digests, sizes and names.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netdump.client.words import parse_words
from netdump.errors import ArmError
from netdump.image.build import ImageSpec, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from netdump.image.build import CaptureImage

RUN = Path("/run/netdump")
RECORD = "armed.json"
LOCK = "lock"
RECORD_BYTES_MAX = 1 << 20
ROOT = Path("/")
HARDWARE = "memory and processors"
PLUGGED = ("sys/devices/system/cpu", "sys/devices/system/memory")
_SPEC_FIELDS = frozenset(each.name for each in fields(ImageSpec)) - {"known", "words"}


@dataclass(frozen=True, slots=True)
class Armed:
    """One loading.

    digests: SHA-256 by what may change. at: seconds since 1970. reserved, needed, packed: bytes. ways, collectors: for
    people. known: addresses of collectors by name. options: of `netdump arm`, as it names them.
    """

    release: str
    command_line: str
    digests: Mapping[str, str]
    at: int
    reserved: int
    needed: int
    packed: int
    ways: Sequence[str] = ()
    collectors: Sequence[str] = ()
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> ImageSpec:
        """What the image was to be like: the same again is the same image, if the machine is the same."""
        texts = {name: value for name, value in self.options.items() if name in _SPEC_FIELDS}
        for name in ("drivers", "network"):
            texts[name] = tuple(texts[name])
        for name in ("bundle", "save"):
            texts[name] = Path(texts[name]) if texts[name] is not None else None
        return ImageSpec(**texts, known=self.known, words=parse_words(self.command_line))


def digests(image: CaptureImage, command_line: str, root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of everything that a loaded capture kernel depends on, by its name for people. Raises ArmError."""
    path = image.kernel.image()
    try:
        kernel = path.read_bytes()
    except OSError as error:
        raise ArmError(f"{path} cannot be read: {error.strerror}") from error
    return {
        **image.digests,
        "kernel": sha256(kernel),
        "command line": sha256(command_line.encode()),
        HARDWARE: sha256(hardware(root).encode()),
    }


def hardware(root: Path = ROOT) -> str:
    """What the core's headers are made from when an image is loaded: ranges of memory, and processors.

    Both change by hot-plugging; without arming again what was added is missing in the dump.
    """
    lines = []
    for path in ("proc/iomem", "sys/devices/system/cpu/possible", "sys/devices/system/cpu/present"):
        try:
            text = (root / path).read_text(errors="replace")
        except OSError:
            continue  # what this kernel does not tell cannot be compared
        lines += [line for line in text.splitlines() if path != "proc/iomem" or line.endswith(": System RAM")]
    return "\n".join(lines)


def changes(before: Mapping[str, str], now: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """The names of what differs, but for what the kernel has brought up to date by itself in what is loaded."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [name for name in names if name != HARDWARE or not follows_hardware(root)]


def follows_hardware(root: Path = ROOT) -> bool:
    """Whether the kernel puts memory and processors that come or go into the headers that it has loaded.

    Linux does since 6.6 (crash_hotplug) if it was loaded by kexec_file_load, as a locked-down one is.
    """
    folders = [root / folder for folder in PLUGGED if (root / folder).is_dir()]
    try:
        return bool(folders) and all((folder / "crash_hotplug").read_text().strip() == "1" for folder in folders)
    except OSError:
        return False


def read_record(run: Path = RUN) -> Armed | None:
    """What was loaded last; None if nothing was since the boot, or nobody knows."""
    try:
        armed = Armed(**json.loads((run / RECORD).read_bytes()[:RECORD_BYTES_MAX]))
        armed.spec()
    except (OSError, ValueError, TypeError, KeyError):
        return None  # then the machine is armed anew: nothing else depends on it
    tables = (armed.digests, armed.known, armed.options)
    return armed if all(isinstance(table, dict) for table in tables) else None


def write_record(armed: Armed, run: Path = RUN) -> None:
    """Remember. Raises ArmError."""
    temporary = run / f".{RECORD}"
    try:
        _make(run)
        temporary.write_text(json.dumps(asdict(armed), indent=1, default=str))
        temporary.chmod(0o644)
        os.replace(temporary, run / RECORD)
    except OSError as error:
        raise ArmError(f"{run / RECORD} cannot be written: {error.strerror}") from error


def forget_record(run: Path = RUN) -> None:
    """Nothing of ours is loaded any more. Raises ArmError."""
    try:
        (run / RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise ArmError(f"{run / RECORD} cannot be removed: {error.strerror}") from error


@contextmanager
def only_one(run: Path = RUN) -> Iterator[None]:
    """Wait until no other process arms or disarms this machine. Raises ArmError."""
    try:
        _make(run)
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ArmError(f"{run} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(run: Path) -> None:
    """Make the folder, for all to read whatever the umask is: what is armed is no secret. Raises OSError."""
    run.mkdir(mode=0o755, parents=True, exist_ok=True)
    run.chmod(0o755)
