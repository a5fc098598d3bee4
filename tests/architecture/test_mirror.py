"""Tests mirror the code name for name: a newcomer finds the test of a module without searching."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "netdump"

# Modules that are tested through another one, and which.
THROUGH: dict[str, str] = {
    "netdump/__main__.py": "every test that starts a process",
    "netdump/errors.py": "tests/architecture/test_errors.py",
    "netdump/testing/memmap_writer.py": "tests/vmcore/test_memmap.py and test_filter.py, which read what it writes",
    "netdump/testing/page_tables.py": "tests/vmcore/test_paging*.py, which walk what it writes",
    "netdump/testing/struct_page_writer.py": "tests/vmcore/test_pageclasses.py, which classifies what it writes",
}


def test_every_module_has_its_test() -> None:
    missing = []
    for path in sorted(PACKAGES.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if path.name == "__init__.py" or name in THROUGH or "migrations" in path.parts:
            continue
        test = ROOT / "tests" / path.relative_to(PACKAGES).with_name(f"test_{path.stem.lstrip('_')}.py")
        if not test.exists():
            missing.append(f"{name}: no {test.relative_to(ROOT)}")
    assert not missing, "\n".join(missing)


def test_exceptions_still_apply() -> None:
    assert all((ROOT / name).exists() for name in THROUGH)
