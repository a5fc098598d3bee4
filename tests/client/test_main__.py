"""`python -m netdump.client` in a bare interpreter, as the capture image starts it:

what is loaded, and how much memory that takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import zstandard

ROOT = Path(__file__).parents[2]
PACKAGES = Path(zstandard.__file__).parents[1]

# Of the standard library what costs memory or hides a scheduler, and everything that is not the capture side's.
FORBIDDEN = {
    *(
        "asyncio",
        "cffi",
        "concurrent",
        "cryptography",
        "ctypes",
        "dataclasses",
        "email",
        "encodings.idna",
        "html",
        "http",
    ),
    *(
        "inspect",
        "json",
        "logging",
        "multiprocessing",
        "pathlib",
        "random",
        "shutil",
        "subprocess",
        "tempfile",
        "urllib",
    ),
    *("unicodedata", "click", "rich", "sqlalchemy", "starlette", "structlog", "urllib3"),
    *(
        "netdump.analyze",
        "netdump.cli",
        "netdump.index",
        "netdump.pki",
        "netdump.remote",
        "netdump.server",
        "netdump.store",
    ),
}

IMPORT_PEAK_MAX = 23 << 10  # KiB; a bare interpreter has 8, ssl and zstandard another 8

PROGRAM = f"""
import sys
sys.path[1:] = [{str(ROOT)!r}, *sys.path[1:], {str(PACKAGES)!r}]
import netdump.client.command
with open("/proc/self/status") as file:
    peak = next(line for line in file if line.startswith("VmHWM")).split()[1]
print(peak, *sorted(sys.modules))
"""


def bare(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )


def test_what_is_loaded_and_what_it_takes() -> None:
    done = bare(PROGRAM)
    assert done.returncode == 0, done.stderr
    peak, *modules = done.stdout.split()
    parents = {name: {name.rsplit(".", depth)[0] for depth in range(4)} for name in modules}
    loaded = [name for name in modules if parents[name] & FORBIDDEN]
    assert not loaded
    assert {"netdump.client.delivery", "netdump.vmcore.plan", "netdump.codec", "ssl"} <= set(modules)
    print(f"modules: {len(modules)}, peak RSS after import: {peak} KiB")
    assert int(peak) <= IMPORT_PEAK_MAX


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netdump.client", "/nonexistent", "--config", "/nonexistent", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 21
    assert json.loads(done.stdout)["error"]["code"] == "config-missing"
