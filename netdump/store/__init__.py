"""The store: dumps on disk, written durably, read back verified (protocol/store.md).

Synchronous, for worker threads. Names that the rest of netdump uses stand here; what they promise is written where
they are defined, and checked for every implementation by netdump/testing/store_contract.py.
"""

from __future__ import annotations

from netdump.store.dump import Dump
from netdump.store.findings import Damage, DamageFoundError, Finding
from netdump.store.intake import verify_chunk, verify_headline
from netdump.store.manifest import Manifest
from netdump.store.origin import Origin
from netdump.store.recovery import Durable
from netdump.store.restore import Restoration, Restored, Wanted, read_segment, restore
from netdump.store.runtables import RunTable, read_run_tables
from netdump.store.segment import SegmentInfo, SegmentReader
from netdump.store.store import Store
from netdump.store.totals import Totals
from netdump.store.verify import Report
from netdump.store.writer import DumpWriter

__all__ = [
    "Damage",
    "DamageFoundError",
    "Dump",
    "DumpWriter",
    "Durable",
    "Finding",
    "Manifest",
    "Origin",
    "Report",
    "Restoration",
    "Restored",
    "RunTable",
    "SegmentInfo",
    "SegmentReader",
    "Store",
    "Totals",
    "Wanted",
    "read_run_tables",
    "read_segment",
    "restore",
    "verify_chunk",
    "verify_headline",
]
