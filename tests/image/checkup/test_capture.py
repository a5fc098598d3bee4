from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from netdump.image.build import PROGRAMS_BUDGET, TOPIC_NETWORK, TOPIC_WORDS, Doubt, ImageSpec
from netdump.image.checkup import capture
from netdump.image.checkup.capture import (
    TOPIC_DRIVERS,
    TOPIC_SAVE,
    TOPIC_WATCHDOG,
    build,
    check_contents,
    check_surroundings,
    lay_out,
    memory_kib,
)
from netdump.image.checkup.finding import State
from netdump.image.checkup.machine import Machine
from netdump.image.init.plan import Module
from tests.image.checkup.machines import make
from tests.image.conftest import RELEASE, use_few_programs

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.image.build import CaptureImage
    from netdump.image.checkup.finding import Finding


@pytest.fixture(scope="module")
def spec(bundle: Path) -> ImageSpec:
    return ImageSpec(bundle, kernel=RELEASE, level=1, strip=False)


@pytest.fixture(scope="module")
def here(machine: Path) -> Machine:
    return Machine(machine, RELEASE, "x86_64", is_root=True)


@pytest.fixture(scope="module")
def image(here: Machine, spec: ImageSpec, tmp_path_factory: pytest.TempPathFactory) -> CaptureImage:
    with pytest.MonkeyPatch.context() as patch:
        use_few_programs(tmp_path_factory.mktemp("programs"), patch)
        image, _ = build(here, spec)
    assert image is not None
    return image


def look(machine: Machine, spec: ImageSpec, image: CaptureImage) -> dict[str, Finding]:
    findings = (*check_contents(machine, image), *check_surroundings(machine, spec))
    return {each.topic: each for each in findings}


def test_an_image_that_can_be_built(
    here: Machine, spec: ImageSpec, image: CaptureImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "build_image", lambda *_: image)
    _, finding = build(here, spec)
    assert (finding.state, finding.fact.startswith("can be built: ")) == (State.OK, True)


@pytest.mark.parametrize(
    ("programs", "stripper", "state"),
    [(PROGRAMS_BUDGET, None, State.OK), (PROGRAMS_BUDGET + 1, None, State.WARNING), (1 << 40, "strip", State.OK)],
)
def test_binutils_are_asked_for_where_they_would_help(
    here: Machine,
    spec: ImageSpec,
    image: CaptureImage,
    monkeypatch: pytest.MonkeyPatch,
    *,
    programs: int,
    stripper: str | None,
    state: State,
) -> None:
    monkeypatch.setattr("netdump.image.build.find_stripper", lambda: stripper)
    monkeypatch.setattr(capture, "build_image", lambda *_: replace(image, programs_bytes=programs))
    finding = build(here, spec)[1]
    assert (finding.state, "install binutils" in finding.remedy) == (state, state is State.WARNING)


def test_one_that_cannot(here: Machine, spec: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, finding = build(here, replace(spec, drivers=("nothing",)))
    assert (image, finding.state) == (None, State.PROBLEM)
    assert "has no module nothing" in finding.fact
    monkeypatch.setattr(capture, "is_hidden", lambda _: True)
    image, finding = build(replace(here, is_root=False), spec)
    assert (image, finding.state) == (None, State.UNKNOWN)


def test_what_a_distribution_packs(
    here: Machine, spec: ImageSpec, few_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, finding = lay_out(here, spec)
    assert contents is not None
    assert (finding.state, finding.fact.startswith("can be laid out: ")) == (State.OK, True)
    assert {each.topic for each in check_contents(here, contents)} == {TOPIC_DRIVERS, TOPIC_NETWORK}
    contents, finding = lay_out(here, replace(spec, drivers=("nothing",)))
    assert (contents, finding.state, "has no module nothing" in finding.fact) == (None, State.PROBLEM, True)
    monkeypatch.setattr(capture, "is_hidden", lambda _: True)
    contents, finding = lay_out(here, spec)
    assert (contents, finding.state) == (None, State.UNKNOWN)


def test_what_is_in_it(machine: Path, spec: ImageSpec, image: CaptureImage) -> None:
    (machine / "sys/class/watchdog/watchdog0").mkdir(parents=True, exist_ok=True)
    here = Machine(machine, RELEASE, "x86_64", is_root=True)
    findings = look(here, spec, image)
    assert findings[TOPIC_DRIVERS].fact == "eth0: virtio_net"
    assert findings[TOPIC_WATCHDOG].fact == "watchdog0"
    assert findings[TOPIC_SAVE].fact.startswith("not used")
    # The bundle names collector.invalid, which no name server knows.
    network = findings[TOPIC_NETWORK]
    assert (network.state, "cannot be looked up" in network.fact) == (State.WARNING, True)
    given = replace(image, plan=image.plan._replace(modules=(Module("/lib/modules/virtio_net.ko", ("csum=0",)),)))
    assert look(here, spec, given)[TOPIC_DRIVERS].fact == "eth0: virtio_net csum=0"
    findings = look(here, spec, replace(image, warnings=()))
    assert {each.state for each in findings.values()} == {State.OK}
    assert findings[TOPIC_NETWORK].fact == "eth0 (static)"
    findings = look(here, spec, replace(image, warnings=(Doubt("unknown", "correct it", TOPIC_WORDS),)))
    assert (findings[TOPIC_WORDS].state, findings[TOPIC_NETWORK].state) == (State.WARNING, State.OK)


def test_a_kernel_that_has_no_modules(image: CaptureImage, tmp_path: Path) -> None:
    """Nobody runs depmod for one."""
    kernel = replace(image.kernel, modules=tmp_path)
    bare = replace(image, kernel=kernel, plan=image.plan._replace(modules=()), warnings=())
    findings = check_contents(make(tmp_path, {"sys/class/net/eth0/mtu": "1500"}), bare)
    assert [each.fact for each in findings if each.topic == TOPIC_DRIVERS] == ["eth0: built into the kernel"]


def test_what_is_missing(here: Machine, spec: ImageSpec, image: CaptureImage, tmp_path: Path) -> None:
    bare = replace(image, plan=image.plan._replace(modules=()))
    finding = look(here, spec, bare)[TOPIC_DRIVERS]
    assert (finding.state, finding.remedy.startswith("--add-driver virtio_net")) == (State.PROBLEM, True)
    elsewhere = make(tmp_path, {"sys/class/watchdog/watchdog0/identity": None})
    findings = look(elsewhere, spec, image)
    assert findings[TOPIC_DRIVERS].state is State.WARNING
    assert findings[TOPIC_WATCHDOG].state is State.WARNING
    assert look(elsewhere, replace(spec, watchdog=False), image)[TOPIC_WATCHDOG].state is State.OK
    elsewhere.path("sys/module/ipmi_watchdog").mkdir(parents=True)
    finding = look(elsewhere, spec, image)[TOPIC_WATCHDOG]
    assert (finding.state, finding.fact) == (State.OK, "ipmi_watchdog"), "which is not among the others"


def test_the_disk(spec: ImageSpec, image: CaptureImage, tmp_path: Path) -> None:
    asked = replace(spec, save=tmp_path)
    for memory, state in (("1 kB", State.OK), (f"{1 << 50} kB", State.WARNING)):
        machine = make(tmp_path, {"proc/meminfo": f"MemTotal: {memory}"})
        assert look(machine, asked, image)[TOPIC_SAVE].state is state


def test_memory(tmp_path: Path) -> None:
    assert memory_kib(make(tmp_path)) == 524288
    assert memory_kib(Machine(tmp_path / "nowhere")) is None
