"""A collector's folder with dumps in it, for the reading commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netdump.pki import sign_receipt
from netdump.store.store import Store
from tests.index.stored import Sample

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = Sample(number=0xABCD1, created=1_795_377_839)
HALF = Sample(number=0xABCD2, created=1_795_377_900, host="web2", drill=True)


def fill(folder: Path) -> Store:
    """WHOLE is complete, with a receipt; HALF is interrupted after 5 of 8 chunks."""
    store = Store(folder / "dumps", clock=lambda: 1_795_377_850)
    with WHOLE.open(store) as writer:
        WHOLE.write(writer)
        manifest = writer.manifest
        assert manifest is not None
        fields = {"id": manifest.id, "host": manifest.host, "image_bytes": manifest.image_bytes}
        more = {"chunks": manifest.chunks, "root": manifest.root.hex(), "completed": manifest.completed}
        writer.put_receipt(sign_receipt(folder, {**fields, **more}))
    HALF.store(store, chunks=5)
    return store
