"""The small files of a dump must agree with each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netdump.errors import DumpNotFoundError
from netdump.store.documents import (
    check_receipt,
    find_origin,
    parse_headline,
    read_headline,
    read_manifest,
    read_origin,
    read_receipt,
)
from netdump.store.findings import Damage, DamageFoundError
from netdump.store.sealed import seal
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import deliver
from netdump.wire import HEADLINE_RAW_MAX, RECEIPT_MAX

if TYPE_CHECKING:
    from netdump.store.manifest import Manifest

SAMPLE = SampleDump()
ORIGIN = SAMPLE.origin
ID = ORIGIN.id


def stored() -> tuple[MemoryFiles, Manifest]:
    memory = MemoryFiles()
    manifest = deliver(Store(Path("dumps"), memory), SAMPLE)
    assert manifest is not None
    return memory, manifest


def test_they_are_read_back() -> None:
    memory, manifest = stored()
    assert find_origin(memory, ID) == read_origin(memory, ID) == ORIGIN
    assert read_manifest(memory, ID, ORIGIN) == read_manifest(memory, ID, None) == manifest
    raw = read_headline(memory, ID)
    assert raw == SAMPLE.headline
    assert parse_headline(raw, manifest) == parse_headline(raw, None)
    receipt = read_receipt(memory, ID)
    assert receipt is not None
    check_receipt(receipt, manifest)


def test_they_may_be_absent() -> None:
    memory = MemoryFiles()
    assert find_origin(memory, ID) is None
    assert read_manifest(memory, ID, ORIGIN) is None
    assert read_headline(memory, ID) is None
    assert read_receipt(memory, ID) is None
    with pytest.raises(DumpNotFoundError, match=ID):
        read_origin(memory, ID)


@pytest.mark.parametrize(
    ("name", "largest"), [("headline", HEADLINE_RAW_MAX), ("receipt.json", RECEIPT_MAX), ("origin.json", 65536)]
)
def test_none_is_larger_than_it_may_be(name: str, largest: int) -> None:
    memory, _ = stored()
    memory.content(f"{ID}/{name}")[:] = bytes(largest + 1)
    with pytest.raises(DamageFoundError, match=f"allowed are {largest}"):
        {"headline": read_headline, "receipt.json": read_receipt, "origin.json": find_origin}[name](memory, ID)


def test_the_manifest_is_of_the_same_host_and_image() -> None:
    memory, _ = stored()
    for other in (replace(ORIGIN, host="other"), replace(ORIGIN, image_bytes=1)):
        with pytest.raises(DamageFoundError, match="not those of the origin"):
            read_manifest(memory, ID, other)


def test_the_headline_is_the_one_of_the_manifest() -> None:
    _, manifest = stored()
    for expected in (manifest, replace(manifest, headline=None)):
        with pytest.raises(DamageFoundError) as error:
            parse_headline(b"", expected)
        assert error.value.finding.damage is Damage.BAD_DIGEST
    with pytest.raises(DamageFoundError) as error:
        parse_headline(b"no document", None)
    assert error.value.finding.damage is Damage.BAD_HEADLINE


def test_the_receipt_is_of_the_same_dump() -> None:
    _, manifest = stored()
    check_receipt(SAMPLE.receipt(manifest), None)
    for other in (
        replace(manifest, id="0" * 32),
        replace(manifest, host="other"),
        replace(manifest, image_bytes=1),
        replace(manifest, chunks=1),
        replace(manifest, completed=1),
        replace(manifest, root=bytes(32)),
    ):
        with pytest.raises(DamageFoundError, match="not th"):
            check_receipt(SAMPLE.receipt(other), manifest)
    with pytest.raises(DamageFoundError) as error:
        check_receipt(seal({"format": "netdump-receipt/2"}), manifest)
    assert error.value.finding.damage is Damage.FORMAT
    with pytest.raises(DamageFoundError):
        check_receipt(b"", None)
