"""Puts the capture image together.

Owns what is in it and where, and the report of sizes. The image is two archives, one after the other, which the
kernel unpacks in turn: `programs` is the same on every machine with this software, `machine` holds kernel modules,
settings and the key. `tree` makes a folder of the same contents. Everything that can be wrong is found here, before
the panic.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netdump.client.address import Address
from netdump.client.config import load_config
from netdump.errors import ConfigError, ImageError
from netdump.image.closure import PYTHON_PATH, add_closure, find_closure, find_stripper
from netdump.image.compression import LEVEL, choose, compress
from netdump.image.cpio import Archive
from netdump.image.devices import network_modules, phy_modules, watchdog_modules
from netdump.image.init.plan import (
    BUNDLE_PATH,
    DEADLINE,
    DEADLINE_MIN,
    PLAN_PATH,
    WATCHDOG_SECONDS,
    Module,
    Plan,
    pack_plan,
)
from netdump.image.kernel import find_kernel
from netdump.image.kmodules import DEPENDENCIES, ModuleTree
from netdump.image.modprobe import module_options
from netdump.image.network import is_link_local, plan_from, plan_given, resolve, take_snapshot
from netdump.image.savetarget import find_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from netdump.client.config import Config
    from netdump.image.kernel import Kernel
    from netdump.image.network import NetworkPlan, Snapshot
    from netdump.image.savetarget import SaveTarget

PROGRAMS_BUDGET: Final = 8 << 20
"""Bytes of the programs, compressed (DESIGN section 6)."""
TOPIC_NETWORK, TOPIC_WORDS = "network", "command line"
FIRMWARE: Final = "lib/firmware"
WATCHDOG_DRIVERS: Final = "kernel/drivers/watchdog"
HOSTS_PATH: Final = "/etc/hosts"
INIT: Final = f"""\
#!/{PYTHON_PATH} -ISB
from netdump.image.init.supervisor import supervise

supervise()
"""
NSSWITCH: Final = "hosts: dns files\n"  # files hold what the names were when the image was built
FOLDERS: Final = ("proc", "sys", "dev", "mnt", "tmp", "run", "root")
DEVICES: Final = (("console", 5, 1), ("null", 1, 3), ("kmsg", 1, 11))


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What the administrator wants. None and empty mean: as is best.

    bundle: of this host. kernel: release. drivers: more kernel modules. network: as network.SYNTAX. save: a folder.
    compression, level: see compression. deadline: seconds; that of [send] of the bundle is the best, if it has one.
    known: addresses of collectors by name, found earlier, for names that cannot be looked up now. words: `netdump.*=`
    of the capture kernel's command line, by name: they win over the bundle there.
    """

    bundle: Path
    kernel: str | None = None
    drivers: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    save: Path | None = None
    deadline: float | None = None
    final: str = "reboot"
    failure: str = "reboot"
    watchdog: bool = True
    compression: str | None = None
    level: int = LEVEL
    strip: bool = True
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the report. raw_bytes: as it lies in memory after unpacking."""

    name: str
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """What may keep an image from delivering. fact: what was seen. remedy: what to do. topic: what it is about."""

    fact: str
    remedy: str
    topic: str = TOPIC_NETWORK

    def __str__(self) -> str:
        return f"{self.fact}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class CaptureImage:
    """A finished image.

    programs_bytes: its compressed part beyond the machine's own. raw_bytes: unpacked. known: addresses of the
    collectors by name. digests: SHA-256 of what went in, by the name of what may change.
    """

    data: bytes
    kernel: Kernel
    plan: Plan
    parts: tuple[Part, ...]
    compression: str
    programs_bytes: int
    raw_bytes: int
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Doubt, ...] = ()

    @property
    def lacks_stripping(self) -> bool:
        """Whether its programs are beyond their budget because this machine has no `strip`."""
        return self.programs_bytes > PROGRAMS_BUDGET and find_stripper() is None

    @property
    def collectors(self) -> list[str]:
        """Whom it sends to, as people write it."""
        return [str(Address(host, port)) for host, port in self.plan.collectors]

    @property
    def interfaces(self) -> str:
        """The names of the interfaces that it sends over, for people: each once, though it may be tried in two ways."""
        return ", ".join(dict.fromkeys(way.link for way in self.plan.ways))


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image holds, before it is packed.

    sizes: bytes by part, as in the report. known, digests, warnings: as of CaptureImage; digests of all but programs.
    """

    kernel: Kernel
    plan: Plan
    programs: Archive
    machine: Archive
    sizes: Mapping[str, int]
    known: Mapping[str, Sequence[str]]
    digests: Mapping[str, str]
    warnings: tuple[Doubt, ...]


def build_image(spec: ImageSpec, root: Path = Path("/")) -> CaptureImage:
    """Build. root: where kernels, /sys and firmware lie.

    Raises ImageError, DriverError, NetworkPlanError, ConfigError, BundleError.
    """
    method = choose(find_kernel(spec.kernel, root), spec.compression)
    contents = gather(spec, root)
    _add_init(contents.programs)
    raw_programs, raw_machine = contents.programs.pack(), contents.machine.pack()
    packed_programs = _pack(raw_programs, method, spec.level)
    packed_machine = _pack(raw_machine, method, spec.level)
    sizes = contents.sizes
    return CaptureImage(
        packed_programs + packed_machine,
        contents.kernel,
        contents.plan,
        tuple(Part(name, sizes[name]) for name in sorted(sizes, key=lambda name: -sizes[name])),
        method,
        len(packed_programs),
        len(raw_programs) + len(raw_machine),
        contents.known,
        {**contents.digests, "programs": sha256(raw_programs)},
        contents.warnings,
    )


def gather(spec: ImageSpec, root: Path = Path("/")) -> Contents:
    """Find everything that client and init need on this machine. Arguments and errors as of build_image."""
    kernel = find_kernel(spec.kernel, root)
    config = load_config(str(spec.bundle), spec.words, {})
    known, doubts = _look_up(config, spec.known)
    doubts += _words_left_out(config, spec.bundle) + _on_one_link(known)
    snapshot = take_snapshot((address for addresses in known.values() for address in addresses), root / "sys")
    network = plan_given(spec.network, snapshot) if spec.network else plan_from(snapshot)
    if not spec.network:
        doubts += _no_routes(known, snapshot) + _far_interfaces(network)
    target = find_target(spec.save) if spec.save else None
    sizes: dict[str, int] = {}

    machine = Archive()  # first, because what is wrong with it shows itself sooner
    modules = _add_modules(machine, kernel, _drivers(spec, kernel, network, target), sizes)
    drivers = machine.pack()
    plan = _plan(spec, config, network, target, modules)
    files = _settings(spec.bundle, plan, known)
    _add_settings(machine, files, sizes)

    programs = Archive()
    sizes.update(add_closure(find_closure(spec.bundle), programs, strip=spec.strip))
    for folder in FOLDERS:
        programs.add_folder(folder)
    programs.add_file("etc/nsswitch.conf", NSSWITCH.encode())
    digests = {**_digests(plan, files), "drivers": sha256(drivers + pack_plan(Plan(modules=plan.modules)).encode())}
    return Contents(kernel, plan, programs, machine, sizes, known, digests, tuple(doubts))


def sha256(content: bytes) -> str:
    """The SHA-256 of content in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def write_image(image: CaptureImage, path: Path) -> None:
    """Write an image for its owner alone: it holds a private key. A half-written one never has its name.

    Raises ImageError, also if path is something else than a file: as root this would replace /dev/null.
    """
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ImageError(f"{path} is not a file, and is never replaced: name another with --out")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                os.fchmod(file.fileno(), 0o600)
                file.write(image.data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from error


def _add_init(archive: Archive) -> None:
    archive.add_file("init", INIT.encode(), 0o755)
    for name, major, minor in DEVICES:
        archive.add_device(f"dev/{name}", major, minor)


def _drivers(spec: ImageSpec, kernel: Kernel, network: NetworkPlan, target: SaveTarget | None) -> dict[str, bool]:
    """The modules to have, in order, and whether they may be missing."""
    wanted: dict[str, bool] = {}
    sys = kernel.root / "sys"
    if spec.watchdog:  # first: one that runs already must not wait for a slow device
        wanted.update(dict.fromkeys(watchdog_modules(sys, kernel.modules / WATCHDOG_DRIVERS), True))
    for interface in network.devices:
        wanted.update(dict.fromkeys(phy_modules(interface, sys), True))
        wanted.update(dict.fromkeys(network_modules(interface, sys), False))
    for kind, name in (("bond", "bonding"), ("vlan", "8021q")):
        if any(link.kind == kind for link in network.links):
            wanted[name] = False
    if any(way.method == "auto" or any(":" in text for text in way.addresses) for way in network.ways):
        wanted["ipv6"] = True  # which hardly a kernel has as a module
    if any(way.method == "dhcp" for way in network.ways):
        wanted["af_packet"] = True  # SUSE's have this as one
    if target:
        wanted.update(dict.fromkeys(target.modules, False))
    wanted.update(dict.fromkeys(spec.drivers, False))
    return wanted


def _add_modules(archive: Archive, kernel: Kernel, wanted: Mapping[str, bool], sizes: dict[str, int]) -> list[Module]:
    """Add modules with what they need, and their firmware. Returns them in load order."""
    if all(wanted.values()) and not (kernel.modules / DEPENDENCIES).exists():
        return []  # everything is built in
    tree = ModuleTree(kernel)
    names = tree.load_order(name for name, optional in wanted.items() if not optional or name in tree)
    options = module_options(kernel.root)
    modules = []
    for name in names:
        module = tree.read(name)
        archive.add_file(module.target, module.content)
        sizes["kernel modules"] = sizes.get("kernel modules", 0) + len(module.content)
        modules.append(Module("/" + module.target, options.get(name, ())))
        _add_firmware(archive, kernel, module.firmware, sizes)
    for name in wanted:
        if tree.is_builtin(name):  # it asks for its firmware when its device is used
            _add_firmware(archive, kernel, tree.builtin_firmware(name), sizes)
    return modules


def _add_firmware(archive: Archive, kernel: Kernel, names: Iterable[str], sizes: dict[str, int]) -> None:
    """Add what is installed of it; modules name files for devices that this machine does not have.

    Looked for where the kernel looks, and as it does (Linux drivers/base/firmware_loader/main.c, fw_path): what a
    vendor has put into `updates` goes before the distribution's. In the image there is one place only.
    """
    folder = kernel.root / FIRMWARE
    for name in names:
        for suffix in ("", ".xz", ".zst"):
            places = (f"updates/{kernel.release}", "updates", kernel.release, "")
            path = next((found for place in places if (found := folder / place / f"{name}{suffix}").is_file()), None)
            target = f"{FIRMWARE}/{name}{suffix}"
            if path and path.resolve().is_relative_to(folder.resolve()) and target not in archive:
                content = path.read_bytes()
                archive.add_file(target, content)
                sizes["firmware"] = sizes.get("firmware", 0) + len(content)


def _plan(
    spec: ImageSpec, config: Config, network: NetworkPlan, target: SaveTarget | None, modules: list[Module]
) -> Plan:
    return Plan(
        deadline=spec.deadline or max(DEADLINE_MIN, config.settings.deadline or DEADLINE),
        final=spec.final,
        failure=spec.failure,
        watchdog=WATCHDOG_SECONDS if spec.watchdog else 0,
        modules=tuple(modules),
        links=network.links,
        ways=network.ways,
        collectors=tuple((each.host, each.port) for each in config.collectors),
        save=target.save if target else None,
    )


def _look_up(config: Config, earlier: Mapping[str, Sequence[str]]) -> tuple[dict[str, Sequence[str]], list[Doubt]]:
    """The addresses of the collectors by name, and what to doubt. A name server may be away for now."""
    found: dict[str, Sequence[str]] = {}
    doubts = []
    for name, addresses in resolve(config.collectors).items():
        found[name] = addresses or earlier.get(name, ())
        if not addresses:
            stand_in = "the addresses it had are used" if found[name] else "the capture kernel will have to find it"
            fact = f"the collector's name {name} cannot be looked up now: {stand_in}"
            doubts.append(Doubt(fact, "see to the name server, or enroll with an address (--collector)"))
    return found, doubts


def _on_one_link(known: Mapping[str, Sequence[str]]) -> list[Doubt]:
    """Collectors at link-local addresses only."""
    remedy = "give the collector another address, and the hosts' bundles too"
    return [
        Doubt(f"{name} is of one link only, whose interface the capture kernel may call otherwise", remedy)
        for name, addresses in known.items()
        if addresses and all(is_link_local(address) for address in addresses)
    ]


def _words_left_out(config: Config, bundle: Path) -> list[Doubt]:
    """Words of the command line that the client will not understand."""
    others = load_config(str(bundle), {}, {}).warnings
    remedy = "correct it where the command line is given (--append, --command-line)"
    return [Doubt(text, remedy, TOPIC_WORDS) for text in config.warnings if text not in others]


def _no_routes(known: Mapping[str, Sequence[str]], snapshot: Snapshot) -> list[Doubt]:
    """The network may not be all there yet, or is another routing table's, as that of a VRF."""
    if snapshot.targets or not any(known.values()):
        return []
    fact = "this machine has no route to a collector now, so the capture kernel gets none"
    return [Doubt(fact, "mend the route and make the image again, or name the gateway with --network")]


def _far_interfaces(network: NetworkPlan) -> list[Doubt]:
    """Tunnels, teams and the like; what is wireless."""
    if not network.beyond:
        return []
    others = ", ".join(dict.fromkeys(way.link for way in network.ways if way.link not in network.beyond))
    instead = f"it will look for them over {others}" if others else "it has no other"
    names = ", ".join(network.beyond)
    fact = f"the collectors are reached over {names}, which the capture kernel cannot use; {instead}"
    return [Doubt(fact, "name a way that leads there with --network, or see that they are reached over it")]


def _settings(bundle: Path, plan: Plan, known: Mapping[str, Sequence[str]]) -> dict[str, tuple[bytes, int]]:
    """The files that hold settings: content and permissions by path."""
    try:
        secret = bundle.read_bytes()
    except OSError as error:
        raise ConfigError(f"{bundle} cannot be read: {error.strerror}") from error
    hosts = "127.0.0.1 localhost\n" + "".join(
        f"{address} {name}\n" for name, addresses in sorted(known.items()) for address in addresses if address != name
    )
    return {
        BUNDLE_PATH: (secret, 0o600),
        PLAN_PATH: (pack_plan(plan).encode(), 0o644),
        HOSTS_PATH: (hosts.encode(), 0o644),
    }


def _add_settings(archive: Archive, files: Mapping[str, tuple[bytes, int]], sizes: dict[str, int]) -> None:
    archive.add_folder("etc/netdump", 0o700)
    for path, (content, permissions) in files.items():
        archive.add_file(path, content, permissions)
        sizes["settings"] = sizes.get("settings", 0) + len(content)


def _digests(plan: Plan, files: Mapping[str, tuple[bytes, int]]) -> dict[str, str]:
    """Of the settings, by what an administrator would call them."""
    network = Plan(links=plan.links, ways=plan.ways)
    rest = plan._replace(links=(), ways=(), modules=())
    return {
        "bundle": sha256(files[BUNDLE_PATH][0]),
        "network": sha256(pack_plan(network).encode()),
        "collectors' addresses": sha256(files[HOSTS_PATH][0]),
        "options": sha256(pack_plan(rest).encode()),
    }


def _pack(raw: bytes, method: str, level: int) -> bytes:
    packed = compress(method, raw, level)
    return packed + bytes(-len(packed) % 4)
