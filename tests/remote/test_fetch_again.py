"""Going on after an interruption: with all that is there, believing nothing of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from netdump.errors import (
    AlreadyExistsError,
    BusyError,
    DamagedError,
    UnreachableError,
)
from netdump.remote.formats import ELF, Format, Output
from netdump.remote.staging import SUFFIX, Staging
from netdump.store.files import LocalFile
from tests.index.stored import Sample
from tests.remote.fetching import Counting, Flaky, get, left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netdump.index.catalog import LocalCatalog
    from netdump.index.reading import FetchPlan
    from netdump.store.store import Store


def test_another_run_goes_on_with_what_is_there(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    names = [segment.name for segment in catalog.plan(dump_id).segments]

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if name not in names[:5]:
            raise UnreachableError("cut")
        data = b"".join(pieces)
        if name != names[4]:
            yield data
        else:
            if not offset:
                yield data[:100]
            raise UnreachableError("cut")

    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), dump_id, target, jobs=1)
    assert left(target) == [f"core{SUFFIX}"]
    progress = Counting()
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    fetched = get(again, dump_id, target, progress)
    assert target.read_bytes() == sample.image
    assert set(again.read) == set(names[4:])
    assert fetched.transferred == progress.total - progress.present
    assert progress.present == sum(segment.bytes for segment in fetched.plan.segments[:4]) + 100


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "zeros", "other"])
def test_corrupted_staging_is_noticed_and_fetched_again(
    store: Store, catalog: LocalCatalog, target: Path, damage: str
) -> None:
    sample = Sample(pages=205)
    dump_id = sample.store(store)
    plan = catalog.plan(dump_id)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for segment in plan.segments:
        (folder / segment.name).write_bytes(b"".join(catalog.read_segment(dump_id, segment.name, 0)))
    victim = folder / plan.segments[3].name
    data = victim.read_bytes()
    victim.write_bytes(
        {
            "flip": data[:150] + bytes([data[150] ^ 4]) + data[151:],
            "cut": data[:150],
            "grow": data + b"x",
            "zeros": data[:150] + bytes(len(data) - 150),
            "other": (folder / plan.segments[4].name).read_bytes(),
        }[damage]
    )
    (folder / "image.partial").write_bytes(b"an image that was not finished")
    counting = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(counting, dump_id, target)
    assert target.read_bytes() == sample.image
    assert set(counting.read) == {victim.name}
    assert left(target) == ["core"]


def cut_at_the_last(
    store: Store, catalog: LocalCatalog, target: Path, sample: Sample, chunks: int | None = None
) -> FetchPlan:
    """A fetch that ends with all but the last segment in the image."""
    plan = catalog.plan(sample.store(store, chunks))

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        if name == plan.segments[-1].name:
            raise UnreachableError("cut")
        return pieces

    with pytest.raises(UnreachableError):
        get(Flaky(catalog, read), plan.id, target, jobs=1)
    return plan


@pytest.mark.parametrize("seconds", [60, -1])
def test_what_is_in_the_image_lies_nowhere_else(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Whether it came at once or over a slow network, through a file."""
    monkeypatch.setattr("netdump.remote.incoming.HELD_SECONDS_MAX", seconds)
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    assert {path.name for path in folder.iterdir() if path.stat().st_size} == {
        "image.partial",
        *(f"{segment.name}.skeleton" for segment in plan.segments[:-1]),
    }
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    progress = Counting()
    fetched = get(again, plan.id, target, progress)
    assert target.read_bytes() == sample.image
    assert set(again.read) == {plan.segments[-1].name}
    assert fetched.transferred == plan.segments[-1].bytes
    assert progress.done == progress.total
    assert left(target) == ["core"]


@pytest.mark.parametrize("damage", ["flip", "no-image", "rubbish", "cut", "empty", "other", "table"])
def test_what_was_left_is_not_believed(store: Store, catalog: LocalCatalog, target: Path, damage: str) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    image, victim = folder / "image.partial", plan.segments[3]
    skeleton = folder / f"{victim.name}.skeleton"
    table = next(each for each in catalog.run_tables(plan.id) if each.offset >= victim.start)
    wrong = {victim.name}
    match damage:
        case "flip":
            data = bytearray(image.read_bytes())
            at = next(at for at in range(victim.start, victim.end) if data[at])
            data[at] ^= 1
            image.write_bytes(data)
        case "no-image":
            image.unlink()
            wrong = {segment.name for segment in plan.segments}
        case "rubbish":
            image.write_bytes(b"rubbish!" * (len(sample.image) // 8 + 1000))
            wrong = {segment.name for segment in plan.segments}
        case "cut":
            skeleton.write_bytes(skeleton.read_bytes()[:-1])
        case "empty":
            skeleton.write_bytes(b"")
        case "other":
            skeleton.write_bytes((folder / f"{plan.segments[4].name}.skeleton").read_bytes())
        case "table":
            raw = skeleton.read_bytes()
            at = raw.index(table.table)
            skeleton.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    progress = Counting()
    get(again, plan.id, target, progress, jobs=3)
    assert target.read_bytes() == sample.image
    assert {*again.read} - {plan.segments[-1].name} <= wrong
    assert victim.name in again.read
    assert progress.done == progress.total
    assert left(target) == ["core"]


def test_a_file_that_has_its_final_name_is_never_written_to(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    skeleton = next(folder.glob("*.skeleton"))
    get(catalog, plan.id, target)
    # Killed between link(2) and unlink(2).
    folder.mkdir()
    skeleton.touch()
    os.link(target, folder / "image")
    flaky = Flaky(catalog, lambda pieces, name, offset: pieces if name < plan.segments[5].name else iter(()))
    with pytest.raises(DamagedError):
        get(flaky, plan.id, target, jobs=1, force=True)
    assert target.read_bytes() == sample.image
    get(catalog, plan.id, target, force=True)
    assert target.read_bytes() == sample.image


def test_nobody_takes_up_an_image_that_gets_its_final_name(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample()
    dump_id = sample.store(store)
    place = Staging.place

    def busy(staging: Staging, *arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(BusyError):
            get(catalog, dump_id, target)
        place(staging, *arguments, **options)

    monkeypatch.setattr(Staging, "place", busy)
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]


def test_a_finished_image_that_nobody_takes_up_makes_room(store: Store, catalog: LocalCatalog, target: Path) -> None:
    dump_id = Sample().store(store)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for name in ("image", "image.incomplete"):
        (folder / name).touch()

    def read(pieces: Iterator[bytes], name: str, offset: int) -> Iterator[bytes]:
        assert {path.name for path in folder.glob("image*")} == {"image.partial", "image.lock"}
        return pieces

    get(Flaky(catalog, read), dump_id, target, jobs=1)


def test_where_holes_are_not_told_each_segment_gets_a_file(
    store: Store, catalog: LocalCatalog, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    monkeypatch.setattr(LocalFile, "next_data", lambda file, position: position)
    cut_at_the_last(store, catalog, target, sample)
    came = {path.name for path in folder.iterdir() if path.stat().st_size}
    assert came == {segment.name for segment in plan.segments[:-1]}
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(again, plan.id, target)
    assert set(again.read) == {plan.segments[-1].name}
    assert target.read_bytes() == sample.image


@pytest.mark.parametrize("what", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_hindrance(
    store: Store, catalog: LocalCatalog, target: Path, what: Callable[[Path], None]
) -> None:
    sample = Sample(pages=205)
    plan = cut_at_the_last(store, catalog, target, sample)
    folder = target.with_name(f"core{SUFFIX}")
    victims = f"{plan.segments[3].name}.skeleton", plan.segments[-1].name, "image.partial"
    for name in victims:
        (folder / name).unlink(missing_ok=True)
        what(folder / name)
    get(catalog, plan.id, target)
    assert target.read_bytes() == sample.image
    assert left(target) == ["core"]


def test_staging_of_another_dump_is_no_hindrance(store: Store, catalog: LocalCatalog, target: Path) -> None:
    other, sample = Sample(number=1), Sample(number=2)
    other_id, dump_id = other.store(store), sample.store(store)
    folder = target.with_name(f"core{SUFFIX}")
    folder.mkdir()
    for segment in catalog.plan(other_id).segments:
        (folder / segment.name).write_bytes(b"".join(catalog.read_segment(other_id, segment.name, 0)))
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image


def test_an_interrupted_dump_is_fetched_as_far_as_it_came(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample()
    dump_id = sample.store(store, chunks=5)
    fetched = get(catalog, dump_id, target)
    assert left(target) == ["core.incomplete"]
    assert fetched.path == target.with_name("core.incomplete")
    assert fetched.path.read_bytes() == sample.image[: 5 * 8 * 4096]
    assert (fetched.bytes, fetched.plan.complete) == (5 * 8 * 4096, False)
    # More has come: the older file makes way for the longer one.
    sample.store(store, chunks=7)
    assert get(catalog, dump_id, target).path.read_bytes() == sample.image[: 7 * 8 * 4096]
    sample.store(store)
    get(catalog, dump_id, target)
    assert target.read_bytes() == sample.image


def test_nothing_comes_again_of_a_dump_that_is_complete_now(store: Store, catalog: LocalCatalog, target: Path) -> None:
    sample = Sample(pages=205)
    sample.store(store, chunks=20)
    plan = cut_at_the_last(store, catalog, target, sample, chunks=20)
    sample.store(store)
    again = Flaky(catalog, lambda pieces, name, offset: pieces)
    get(again, plan.id, target)
    assert target.read_bytes() == sample.image
    assert not {*again.read} & {segment.name for segment in plan.segments[:-1]}
    assert left(target) == ["core"]


@pytest.mark.parametrize("output", [ELF, Output(Format.ZST)])
def test_what_the_collector_has_lost_since_is_not_given_up(
    store: Store, catalog: LocalCatalog, target: Path, output: Output
) -> None:
    sample = Sample()
    longer = get(catalog, sample.store(store, chunks=7), target, output=output).path
    held = longer.read_bytes()
    store.delete(sample.id)
    sample.store(store, chunks=3)
    with pytest.raises(AlreadyExistsError, match=f"{longer.name} has {len(held):,} bytes, more than the "):
        get(catalog, sample.id, target, output=output)
    assert longer.read_bytes() == held
    assert get(catalog, sample.id, target, output=output, deliver=lambda _: None).bytes < len(held)
    assert get(catalog, sample.id, target, output=output, force=True).bytes == longer.stat().st_size < len(held)
    assert left(target) == [longer.name]
