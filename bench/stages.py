"""The stages of a run, in their order: each makes what it needs, measures, and adds to the results."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import cores, curve, download, filtering, fleet, growth, holdings, hosts, ingest, interruption, links, upload
from bench.budgets import load_goals
from bench.collector import collector, netdump_init
from bench.contest import Outcome, hold
from bench.page import PAGE
from bench.process import PYTHON, Launcher, Place, on_cpus, run, split_cpus
from bench.report import Results, Table
from bench.sshd import ssh_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.collector import Collector
    from bench.contest import Contestant

MIB: Final = 1 << 20
VAST_GIB: Final = (16, 128, 1024)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What stages work with. cache: kept between runs. bench: keys and logs. far: where far ends write."""

    cache: Path
    bench: Path
    far: Path
    launcher: Launcher
    rounds: int
    quick: bool
    update_docs: bool = False

    def picture(self, name: str) -> Path:
        """Where a curve goes: beside the page, or with what is kept between runs."""
        return (PAGE.parent if self.update_docs else self.cache) / name

    def mixed_core(self) -> Path:
        """The generated core; a small one for a quick run."""
        size = 64 * MIB if self.quick else 4 << 30
        cores.need_space(self.far, 2 * size)
        return cores.mixed_core(self.cache, size)

    @contextmanager
    def arena(self, *, pinned: bool = True, link: links.Link | None = None) -> Iterator[upload.Arena]:
        """A collector and an sshd, on loopback or beyond a link."""
        client_cpus, far_cpus = split_cpus() if pinned else ("", "")
        address = links.FAR_ADDRESS if link else "127.0.0.1"
        far = Place(far_cpus, link.far if link else "")
        near = Place(client_cpus, link.near if link else "")
        for folder in (self.bench / "arena", self.far / "arena"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        sink = self.far / "arena" / "sink"
        sink.mkdir()
        bench = self.bench / "arena"
        with (
            collector(self.far / "arena" / "collector", bench, address, far) as running,
            ssh_server(bench / "ssh", address, far, near) as sshd,
        ):
            yield upload.Arena(running, sshd, sink, bench, near, self.launcher)

    @contextmanager
    def loaded_collector(self, place: Place, *settings: str) -> Iterator[Collector]:
        """A collector for many hosts, which this machine plays. settings: lines of its config.toml."""
        folder, bundles = self.far / "load", self.bench / "load"
        for each in (folder, bundles):
            shutil.rmtree(each, ignore_errors=True)
        bundles.mkdir(mode=0o700)
        with collector(folder, bundles, "127.0.0.1", place, *settings) as running:
            yield running
        shutil.rmtree(folder)

    def contest(self, results: Results, key: str, title: str, contestants: list[Contestant]) -> Outcome:
        """Hold a contest and note what came of it."""
        big = not self.quick and "4 GiB" in title
        outcome = hold(key, title, contestants, self.launcher, rounds=self.rounds, say=_say, warm=not big)
        results.contests.append(outcome)
        return outcome


def one_cpu(work: Workplace, results: Results) -> None:
    """Both cores, client side on one CPU, everything that is in use today."""
    real, mixed = cores.real_core(work.cache), work.mixed_core()
    with work.arena() as arena:
        everyone = [
            upload.ours(arena, real, 1),
            upload.makedumpfile(arena, real, 1),
            upload.makedumpfile(arena, real, 1, "c"),
            upload.zstd(arena, real),
            upload.cat(arena, real),
            upload.scp(arena, real),
        ]
        outcome = work.contest(
            results, "upload.real.d1", f"Real core of {_size(real)}, -d 1, client on one CPU", everyone
        )
        tiny = upload.ours(arena, cores.tiny_core(work.cache), 1)
        idle = hold("idle", "Core of 10 KiB", [tiny], work.launcher, rounds=work.rounds, say=_say).results[0].seconds
        _limit(work, results, "real", real, outcome=outcome, idle=idle)
        some = [
            upload.ours(arena, mixed, 1),
            upload.makedumpfile(arena, mixed, 1),
            upload.zstd(arena, mixed),
            upload.cat(arena, mixed),
            upload.bare(arena, mixed, _certificate(work)),
        ]
        title = f"Generated core of {_size(mixed)}, -d 1, client on one CPU"
        outcome = work.contest(results, "upload.mixed.d1", title, some)
        _limit(work, results, "mixed", mixed, outcome=outcome, idle=idle)


def all_cpus(work: Workplace, results: Results) -> None:
    """The real core, nothing pinned."""
    real = cores.real_core(work.cache)
    with work.arena(pinned=False) as arena:
        everyone = [
            upload.ours(arena, real, 1),
            upload.makedumpfile(arena, real, 1),
            upload.zstd(arena, real),
            upload.cat(arena, real),
            upload.scp(arena, real),
        ]
        work.contest(results, "upload.real.unpinned", f"Real core of {_size(real)}, -d 1, all CPUs", everyone)


def levels(work: Workplace, results: Results) -> None:
    """Dump levels of the page filter: time, and bytes on the wire beside makedumpfile's lzo and zlib."""
    real = cores.real_core(work.cache)
    table = Table(
        "levels",
        f"Bytes on the wire by dump level, real core of {_size(real)} (MB, and share of the core)",
        ("level", "netdump", "share", "makedumpfile lzo", "share", "makedumpfile zlib", "share"),
    )
    whole = real.stat().st_size
    with work.arena() as arena:
        for level in (31,) if work.quick else (1, 2, 4, 8, 16, 31):
            entrants = [
                upload.ours(arena, real, level, settings=["compression = 1"], name="netdump, zstd level 1"),
                upload.makedumpfile(arena, real, level),
                upload.makedumpfile(arena, real, level, "c"),
            ]
            found = hold(f"level.{level}", f"-d {level}", entrants, work.launcher, rounds=1, say=_say, warm=False)
            sizes = [result.wire_bytes for result in found.results]
            cells = [cell for size in sizes for cell in (f"{size / 1e6:.1f}", f"{size / whole:.3f}")]
            table.rows.append((str(level), *cells))
        results.tables.append(table)
        contestants = [upload.ours(arena, real, 31), upload.makedumpfile(arena, real, 31)]
        work.contest(results, "upload.real.d31", f"Real core of {_size(real)}, -d 31, client on one CPU", contestants)


def start_up(work: Workplace, results: Results) -> None:
    """A core of 10 KiB: start-up, connection, receipt and nothing else."""
    tiny = cores.tiny_core(work.cache)
    with work.arena() as arena:
        contestants = [
            upload.ours(arena, tiny, 0),
            upload.makedumpfile(arena, tiny, 0),
            upload.cat(arena, tiny),
            upload.scp(arena, tiny),
        ]
        work.contest(results, "upload.tiny", "Start-up alone: a core of 10 KiB, client on one CPU", contestants)


def slow_links(work: Workplace, results: Results) -> None:
    """The same on a link of 1 Gbit and one of 100 Mbit."""
    if not links.can_make_links():
        _say("no links: making network namespaces takes root")
        return
    real = cores.real_core(work.cache)
    with links.link() as wire, work.arena(link=wire) as arena:
        for rate, name in links.RATES.items():
            if work.quick and rate != "1gbit":
                continue
            wire.limit(rate)
            contestants = [
                upload.ours(arena, real, 1),
                upload.makedumpfile(arena, real, 1),
                upload.zstd(arena, real),
                upload.cat(arena, real),
                upload.scp(arena, real),
            ]
            work.contest(
                results, f"upload.{rate}", f"Real core of {_size(real)}, -d 1, {name}, client on one CPU", contestants
            )


def compression(work: Workplace, results: Results) -> None:
    """Adaptive compression against fixed levels on links of several rates, and the curve of it."""
    real = cores.real_core(work.cache)
    outcomes, names = [], []
    rounds = work.rounds
    if links.can_make_links() and not work.quick:
        with links.link() as wire, work.arena(link=wire) as arena:
            for rate, name in reversed(links.RATES.items()):
                wire.limit(rate)
                outcomes.append(curve.race(arena, real, rate, name, rounds=rounds, say=_say))
                names.append(name)
    with work.arena() as arena:
        outcomes.append(curve.race(arena, real, "loopback", "loopback", rounds=rounds, say=_say))
        names.append("loopback")
    table = Table("compression", "Adaptive compression and fixed levels, -d 1, one CPU (s)", ("link",))
    table.header += tuple(result.name for result in outcomes[0].results)
    for name, outcome in zip(names, outcomes, strict=True):
        table.rows.append((name, *(f"{result.seconds:.3f}" for result in outcome.results)))
    results.tables.append(table)
    target = work.picture("compression.png")
    curve.draw(outcomes, names, target)
    _say(f"curve: {target}")


def collector_load(work: Workplace, results: Results) -> None:
    """Sustained ingest of 1, 8 and 64 clients, of compressed chunks and of stored ones."""
    table = Table(
        "ingest",
        "One collector, light hosts on one CPU, the collector on the others",
        ingest.HEADER,
    )
    core = cores.real_core(work.cache)
    near, far = split_cpus()
    for level, kind in ((1, "zstd level 1"), (0, "stored")):
        cargo = hosts.load_cargo(core, level)
        for count in (1, 8) if work.quick else (1, 8, 64):
            with work.loaded_collector(Place(far), *ingest.LOAD) as running, on_cpus(near):
                load = ingest.load(running, hosts.make_contexts(running.folder, count), cargo, max(1, 8 // count))
            table.rows.append(load.cells(kind))
            _say(f"{count} clients, {kind}: {table.rows[-1]}")
    results.tables.append(table)


def crashing_fleet(work: Workplace, results: Results) -> None:
    """1,000 hosts crash in the same minute, more than the collector takes in meanwhile; 500 in the same second."""
    for key, count, within_s in (("fleet", 1000, 60.0), ("herd", 500, 1.0)):
        if work.quick:
            count, within_s = 60, within_s / 30  # noqa: PLW2901
        cargo = hosts.load_cargo(cores.small_core(work.cache), 0)
        cores.need_space(work.far, 3 * count * cargo.size)  # segments, vmcores
        near, far = split_cpus()
        with work.loaded_collector(Place(far)) as running, on_cpus(near):
            contexts = hosts.make_contexts(running.folder, count)
            crashed = fleet.crash(running, contexts, cargo, within_s)
        results.tables.append(fleet.table(key, crashed, cargo.size, within_s))


def fetching(work: Workplace, results: Results) -> None:
    """The core back at a desk: fetch, scp and rsync of the same ELF."""
    real = cores.real_core(work.cache)
    with work.arena() as arena:
        contestants = [download.ours(arena, real), download.scp(arena, real), download.rsync(arena, real)]
        title = f"Fetching the real core of {_size(real)}, client on one CPU"
        work.contest(results, "fetch", title, contestants)
    if links.can_make_links() and not work.quick:
        with links.link() as wire, work.arena(link=wire) as arena:
            entrants = [download.ours(arena, real), download.scp(arena, real), download.scp(arena, real, "-C")]
            for rate, name in links.RATES.items():
                wire.limit(rate)
                work.contest(results, f"fetch.{rate}", f"Fetching the real core of {_size(real)}, {name}", entrants)
            wire.limit("1gbit")
            dump = download.stored_dump(arena, real)
            rows = interruption.resume(arena, dump.id, arena.far_folder / "fetched")
            title = "A fetch of the real core at 1 Gbit/s, uncompressed, that is killed and started again"
            results.tables.append(Table("resume", title, ("fetch", "s", "MB"), rows))


def page_filter(work: Workplace, results: Results) -> None:
    """The page filter by itself beside makedumpfile's exclude step, and how it grows with memory."""
    table = Table("filter", "Page filter alone, level 31", filtering.HEADER)
    real = cores.real_core(work.cache)
    generated = {size: cores.vast_core(work.cache, size) for size in (() if work.quick else VAST_GIB)}
    cases = [(f"real, {_size(real)}", real), *((f"generated, {size} GiB", core) for size, core in generated.items())]
    alone: list[float] = []
    for name, core in cases:
        ours, theirs = filtering.compare(core, work.bench, 1 if work.quick else 3, peers=core == real)
        table.rows.append((name, *ours.cells(theirs)))
        alone.append(ours.peak_bytes / MIB)
        _say(f"filter: {table.rows[-1]}")
    results.tables.append(table)
    whole = _whole_sends(work, results, generated)
    if whole:
        (peak_goal,) = (goal.most for goal in load_goals() if goal.figure == "client.vast_peak_mib")
        curves = {"page filter alone": dict(zip(generated, alone[1:], strict=True)), "netdump send -d 31": whole}
        target = work.picture("memory.png")
        curve.draw_peaks(curves, peak_goal, target)
        _say(f"curve: {target}")


def _whole_sends(work: Workplace, results: Results, generated: dict[int, Path]) -> dict[int, float]:
    """The whole client on machines made for the filter, once each: its peaks in MiB by GiB."""
    peaks: dict[int, float] = {}
    table = Table("vast", "netdump send -d 31 of generated machines, client on one CPU", ("memory", "s", "peak MiB"))
    with work.arena() as arena:
        for size, core in generated.items():
            contestant = upload.ours(arena, core, 31)
            cost = work.launcher.measure(contestant.prepare(), contestant.place)
            contestant.finish()
            peaks[size] = cost.peak_bytes / MIB
            table.rows.append((f"{size} GiB", f"{cost.seconds:.1f}", f"{peaks[size]:.1f}"))
            _say(f"send -d 31: {table.rows[-1]}")
    if peaks:
        results.tables.append(table)
    return peaks


def scale(work: Workplace, results: Results) -> None:
    """The same data in ever larger images, and ever more data in one: what time and memory depend on."""
    title = "Images of growing size, 64 MiB of data in each (s; peaks in MiB)"
    table = Table("scale", title, ("image", *growth.HEADER))
    places: list[tuple[str, ...]] = []
    for size in (1, 16) if work.quick else (1, 16, 256, 4096):
        cells, places = _grown(work, size, 64)
        table.rows.append((f"{size} GiB", *cells))
    results.tables.append(table)
    title = f"Reading in the middle of an image of {table.rows[-1][0]}, afterwards: medians"
    results.tables.append(Table("seek", title, ("what", "ms"), places))
    title = "An image of 16 GiB with more and more data in it (s; peaks in MiB)"
    table = Table("linear", title, ("data", *growth.HEADER))
    for data in (16, 64, 128) if work.quick else (64, 256, 1024, 2048):
        cells, _ = _grown(work, 16, data)
        table.rows.append((f"{data:,} MiB", *cells))
    results.tables.append(table)


def _grown(work: Workplace, gib: int, data_mib: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """One image, with a collector of its own: so each begins with the same memory."""
    cores.need_space(work.far, 3 * data_mib * MIB)  # segments, vmcore, what is fetched
    core = cores.sparse_core(work.bench, gib, data_mib)
    with work.arena() as arena:
        cells, places = growth.measure(arena, core, 1 if work.quick else 3)
    core.unlink()
    _say(f"scale: {gib} GiB, {data_mib} MiB of data: {cells}")
    return cells, places


def many_dumps(work: Workplace, results: Results) -> None:
    """A collector with more and more dumps."""
    title = "A collector with more and more dumps, on its own machine (s; peak in MiB)"
    table = Table("holdings", title, ("dumps", *holdings.HEADER))
    folder, count = work.far / "holdings", 0
    shutil.rmtree(folder, ignore_errors=True)
    netdump_init(folder, "127.0.0.1")
    (folder / "config.toml").write_text(holdings.CONFIG)
    for wanted in (100, 1000) if work.quick else (2000, 20_000):
        holdings.fill(folder, count, wanted)
        count = wanted
        table.rows.append((f"{count:,}", *holdings.measure(folder, work.launcher, 1 if work.quick else 3)))
        _say(f"dumps: {table.rows[-1]}")
    shutil.rmtree(folder)
    results.tables.append(table)


def _limit(work: Workplace, results: Results, name: str, core: Path, *, outcome: Outcome, idle: float) -> None:
    """The parts of the one-core limit beside what the client took, and what it takes for next to nothing."""
    argv = [PYTHON, "-m", "bench.parts", str(core), str(_certificate(work))]
    samples = [json.loads(run(argv)) for _ in range(2 if work.quick else 3)]
    best = min(samples, key=lambda parts: sum(parts.values()))
    total, took = sum(best.values()), outcome.ours().seconds
    header = ("part", "s")
    rows: list[tuple[str, ...]] = [(part, f"{seconds:.3f}") for part, seconds in best.items()]
    rows += [
        ("**sum: the one-core limit**", f"{total:.3f}"),
        ("netdump send, all of it", f"{took:.3f}"),
        ("of that start-up, handshake, receipt: a core of 10 KiB", f"{idle:.3f}"),
    ]
    results.tables.append(Table(f"limit.{name}", f"One-core limit, {outcome.title}", header, rows))


def _certificate(work: Workplace) -> Path:
    """A certificate and its key in one file, for connections of a measurement with itself."""
    path = work.bench / "parts.pem"
    if not path.exists():
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run([*request, "-keyout", str(path), "-out", str(path), "-subj", "/CN=bench", "-days", "2"])
    return path


def _size(core: Path) -> str:
    size = core.stat().st_size
    return f"{size / (1 << 30):.0f} GiB" if size >= 1 << 30 else f"{size / 1e6:.0f} MB"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


STAGES: Final[dict[str, Callable[[Workplace, Results], None]]] = {
    "start-up": start_up,
    "one-cpu": one_cpu,
    "all-cpus": all_cpus,
    "levels": levels,
    "links": slow_links,
    "compression": compression,
    "fetch": fetching,
    "filter": page_filter,
    "collector": collector_load,
    "fleet": crashing_fleet,
    "scale": scale,
    "holdings": many_dumps,
}
