"""Which files of Python the image needs, found by running what it will run.

Owns the layout of the interpreter inside the image, and stripping. Nothing is listed by hand: a bare interpreter
imports the client and the init, rehearses, and is asked what it loaded (probe, rehearsal). The one exception is what
the C library opens by itself later, DLOPENED.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netdump.errors import BundleError, ConfigError, ConfigMissingError, ProgramsError
from netdump.image.elfobject import is_elf, read_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.image.cpio import Archive

ROOTS = (
    "netdump.client.__main__",
    "netdump.client.command",
    "netdump.image.init.stages",
    "netdump.image.init.target",
)
# Loaded by glibc itself when a thread ends by pthread_exit, and when names are looked up (before glibc 2.34 these were
# not part of libc). What this machine does not have is not needed.
DLOPENED = ("libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")
CHILD_TIMEOUT = 300.0  # seconds; an emulated machine needs ten
PYTHON_PATH = "usr/bin/python3"


@dataclass(frozen=True, slots=True)
class PythonFile:
    """One file of the closure. part: the line of the size report that it belongs to. target: path in the image."""

    part: str
    target: str
    source: Path
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Closure:
    """files: copied as they are, or stripped. sources: compiled on the way; their targets end in .pyc."""

    files: tuple[PythonFile, ...]
    sources: tuple[PythonFile, ...]


def find_closure(bundle: Path | None) -> Closure:
    """Find everything that the client and the init load. bundle: is rehearsed with; None leaves that out.

    Raises ProgramsError, and ConfigError or BundleError of the bundle.
    """
    answer = _ask(bundle)
    files, sources = [], []
    for module in answer["modules"]:
        if module["kind"] == "source" or module["name"] == "os":  # os is frozen, but its file marks the library
            sources.append(PythonFile(_part(module["name"]), _target(module), Path(module["path"])))
        elif module["kind"] == "extension":
            files.append(PythonFile(_part(module["name"]), _target(module), Path(module["path"])))
        elif module["kind"] != "frozen":
            raise ProgramsError(f"{module['name']} is loaded from {module['path']}, which cannot be put into the image")
    extensions = {str(file.source.resolve()) for file in files}
    files += _libraries([path for path in answer["libraries"] if path not in extensions])
    return Closure(tuple(files), tuple(sources))


def add_closure(closure: Closure, archive: Archive, *, strip: bool = True) -> dict[str, int]:
    """Put a closure into the archive. strip: without symbols, if the machine has `strip`. Returns bytes by part."""
    sizes: dict[str, int] = {}
    stripper = find_stripper() if strip else None
    for file in closure.files:
        content = read_binary(file.source, stripper)
        archive.add_file(file.target, content, 0o755 if file.executable else 0o644)
        sizes[file.part] = sizes.get(file.part, 0) + len(content)
    compiled = _compile(closure.sources)
    for file, content in zip(closure.sources, compiled, strict=True):
        archive.add_file(file.target, content)
        sizes[file.part] = sizes.get(file.part, 0) + len(content)
    archive.add_folder(f"{_library_folder()}/lib-dynload")
    return sizes


def find_stripper() -> str | None:
    """The program that takes symbols out of programs, None if this machine has none: binutils brings it."""
    return shutil.which("strip")


def bare_interpreter() -> list[str]:
    """The command line of an interpreter without site packages and environment."""
    return [str(_interpreter()), "-I", "-S", "-B"]


def _interpreter() -> Path:
    """The interpreter itself, not the link of a virtual environment: without pyvenv.cfg it finds its own library."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    if not base:
        raise ProgramsError("Python does not know its own program: start netdump by its full path")
    return Path(base).resolve()


def _ask(bundle: Path | None) -> dict[str, Any]:
    request = {"path": _package_folders(), "roots": list(ROOTS), "bundle": str(bundle.resolve()) if bundle else ""}
    output = _run(Path(__file__).with_name("probe.py"), json.dumps(request).encode())
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise ProgramsError("the interpreter gave no answer about the modules it loads") from error
    if "error" in answer:
        raise _judge(answer["error"])
    return answer


def _judge(error: dict[str, Any]) -> Exception:
    """Turn what went wrong in the bare interpreter into an error of ours."""
    for known in (ConfigError, ConfigMissingError, BundleError):
        if error["status"] == known.exit_status:
            return known(error["text"])
    if error["type"] in {"ModuleNotFoundError", "ImportError"}:
        name = error["name"] or "a module"
        return ProgramsError(
            f"{name} cannot be imported by {_interpreter()} ({error['text']}): the client needs it; install it again"
        )
    return ProgramsError(f"the client does not start in a bare interpreter: {error['type']}: {error['text']}")


def _run(script: Path, request: bytes) -> bytes:
    # As the image runs the client, by -c: from Python 3.13 on that loads a module of the standard library.
    command = [*bare_interpreter(), "-c", script.read_text(encoding="utf-8")]
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=CHILD_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramsError(f"{command[0]} cannot be run to look at the client: {error}") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ProgramsError(f"{script.name} failed in {command[0]}: {' '.join(last) or f'status {done.returncode}'}")
    return done.stdout


def _package_folders() -> list[str]:
    """Where netdump and what it uses from outside the standard library lie."""
    folders = [str(Path(__file__).resolve().parents[2])]
    for name in ("zstandard",):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ProgramsError(f"the package {name} is not installed: pip install {name}")
        folders.append(str(Path(spec.submodule_search_locations[0]).resolve().parent))
    return list(dict.fromkeys(folders))


def _part(name: str) -> str:
    top = name.partition(".")[0]
    return {"netdump": "netdump", "zstandard": "zstandard"}.get(top, "standard library")


def _library_folder() -> str:
    return f"usr/{sys.platlibdir}/python{sys.version_info[0]}.{sys.version_info[1]}"


def _target(module: dict[str, str]) -> str:
    place = module["name"].replace(".", "/")
    if module["kind"] == "extension":
        folder = place.rpartition("/")[0] or "lib-dynload"
        return f"{_library_folder()}/{folder}/{Path(module['path']).name}"
    return f"{_library_folder()}/{place}{'/__init__' if module['package'] else ''}.pyc"


def _libraries(mapped: Sequence[str]) -> list[PythonFile]:
    """The interpreter, its loader and the shared libraries.

    Libraries come under their SONAME into the folder of libc, which the loader searches without being told to.
    """
    program = _interpreter()
    loader = read_object(program.read_bytes(), str(program)).interpreter
    found = [PythonFile("interpreter", PYTHON_PATH, program, executable=True)]
    folder: Path | None = None
    shared: list[tuple[str, Path]] = []
    for path in map(Path, mapped):
        if path == program:
            continue
        name = read_object(path.read_bytes(), str(path)).soname or path.name
        if name.startswith("libc.so"):
            folder = path.parent
        if loader and name == Path(loader).name:
            found.append(PythonFile("C library", loader, path, executable=True))
        else:
            shared.append((name, path))
    if folder is None:
        return found  # a static interpreter
    present = {name for name, _ in shared}
    shared += [(name, folder / name) for name in DLOPENED if name not in present and (folder / name).exists()]
    return found + [PythonFile(_library_part(name), f"{folder}/{name}", path) for name, path in shared]


def _library_part(name: str) -> str:
    if name.startswith("libpython"):
        return "interpreter"
    if name.startswith(("libssl", "libcrypto")):
        return "OpenSSL"
    return "C library" if name.startswith(("libc.", "libm.", "ld-", *DLOPENED)) else "libraries"


def read_binary(path: Path, stripper: str | None) -> bytes:
    """Read a file, without symbols if it is ELF and stripper, the program `strip`, is at hand. Raises ProgramsError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProgramsError(f"{path} cannot be read: {error.strerror}") from error
    if stripper is None or not is_elf(content):
        return content
    with tempfile.TemporaryDirectory(prefix="netdump-strip-") as folder:
        target = Path(folder) / "stripped"
        done = subprocess.run(
            [stripper, "--strip-unneeded", "-o", str(target), str(path)], capture_output=True, check=False
        )
        # A file that strip does not understand is used as it is: only larger.
        return target.read_bytes() if done.returncode == 0 else content


def _compile(sources: Sequence[PythonFile]) -> list[bytes]:
    request = [[str(file.source), "/" + file.target.removesuffix("c")] for file in sources]
    output = _run(Path(__file__).with_name("compiler.py"), json.dumps(request).encode())
    compiled, at = [], 0
    for _ in sources:
        length = int.from_bytes(output[at : at + 8], "little")
        compiled.append(output[at + 8 : at + 8 + length])
        at += 8 + length
    return compiled
