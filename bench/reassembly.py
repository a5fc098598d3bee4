"""Making the `vmcore` of a dump anew, as the collector does: `python -m bench.reassembly FOLDER ID`. Prints seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from netdump.index.catalog import STORE_NAME
from netdump.store.store import Store


def main(folder: str, dump_id: str) -> None:
    """Remove the one that is there, make it, print."""
    dump = Store(Path(folder, STORE_NAME)).dump(dump_id)
    dump.drop_vmcore()
    begun = time.perf_counter()
    dump.reassemble()
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
