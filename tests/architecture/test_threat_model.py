"""SECURITY.md says every limit with its default, and names only tests that exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

from netdump.server.config import iter_keys

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
# Settings that limit nobody: where to listen, whom to name, what to keep.
NO_LIMITS = {"listen", "advertise", "keep_vmcore", "enabled"}
# Where peers are met, by the collector and by analysts. Constants whose names end so are limits, in wire._registry
# those of protocol/wire.md.
FACING = ("server", "wire", "pki", "remote")
ENDS = "MAX|MOST|MIN|LEAST|BYTES|S|SECONDS|THREADS|TURNS|TRIES|AT_ONCE|PART|PER_MINUTE|PER_SECOND|PER_S|TIMEOUT"
LIMIT = re.compile(rf"^[A-Z][A-Z_]*_({ENDS})$")
# Those that bound nothing that a peer could use up, by what they are instead.
NO_PEERS = {
    "how we go about our own work": {
        "server.answers.PIECE_BYTES",
        "server.dumps.PIECE_BYTES",
        "server.tls.ENCRYPT_BYTES",
        "server.tls.PIECE_BYTES",
        "server.bufferpool.STEP_BYTES",
        "server.bufferpool.SHORT_BYTES",
        "server.collector.STATUS_S",
        "server.senders.SAY_S",
        "server.senders.SLACK_S",
        "server.status.SILENT_S",
        "server.upkeep.LOOK_S",
        "pki.enroll.BUNDLE_BYTES",
        "pki.renew.GROWTH_BYTES",
        "server.owncertificate.SAY_S",
        "server.latecatalog.PATIENCE_S",
        "server.latecatalog.RETRY_S",
        "server.views.AGAIN_S",
        "server.views.LIST_S",
        "server.views.SHOW_PAUSE_S",
        "server.views.SHOW_S",
        "server.listener.CLOSING_TURNS",
        "server.recorder.CHECKS_AT_ONCE",
        "server.recorder.PROGRESS_S",
        "server.reception.BUSY_TRIES",
        "server.reception.BUSY_PAUSE_S",
        "server.reception.SOON_S",
        "server.restorer.METADATA_BYTES",
        "server.scrub.BREATH_S",
        "server.scrub.MEASURE_S",
        "server.scrub.RATE_MIN",
        "server.scrub.REST_S",
        "server.scrub.SAVE_S",
        "server.seats.VAST_BYTES",
        "server.diskfailures.RECENT_S",
        "remote.api.PIECE_BYTES",
        "remote.incoming.HELD_BYTES_MAX",
        "remote.incoming.HELD_SECONDS_MAX",
        "remote.kdump_file.BATCH_BYTES",
        "remote.staging.SKELETON_BYTES",
    },
    "what the administrator, systemd, or a file of our own may hold or wait for": {
        "server.audit.CLOSE_S",
        "server.config.ADDRESSES_MAX",
        "server.config.ADDRESS_TEXT_MAX",
        "server.config.CONFIG_BYTES_MAX",
        "server.https.GOODBYE_S",
        "server.notify.LISTEN_FDS_MAX",
        "server.recorder.CLOSING_S",
        "server.recorder.WAITING_MAX",
        "server.scrub.STATE_BYTES_MAX",
        "server.status.BYTES_MAX",
        "server.status.FACT_CHARS_MAX",
        "server.status.CLOSING_S",
        "pki.certificates.PEM_MAX",
        "pki.durable.ABANDONED_S",
        "pki.names.COLLECTOR_NAMES_MAX",
        "pki.record.RECORD_MAX",
        "pki.token.TTL_MIN",
        "pki.token.TTL_MAX",
        "remote.fetch.JOBS_MAX",
    },
    "a unit, or the size of a thing": {
        "server.config.DAY_S",
        "pki.certificates.COMMON_NAME_MAX",
        "pki.names.LABEL_MAX",
        "pki.record.TIME_MAX",
        "pki.token.SECRET_BYTES",
        "pki.token.CA_DIGEST_BYTES",
        "remote.kdump_header.PAGE_DESC_BYTES",
    },
    "as many as there are CPUs": {"server.api.PACKINGS_MAX", "remote.kdump_file.THREADS_MAX"},
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    table = TEXT[TEXT.index(heading) :].split("\n\n")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert found, heading
    return found


def test_every_limit_has_its_default_and_a_reason() -> None:
    said = [(name.strip("`"), default.strip("`")) for name, default, _ in rows("| setting | default | why |")]
    known = [(f"{key.section}.{key.name}", key.default) for key in iter_keys() if key.name not in NO_LIMITS]
    assert sorted(said) == sorted(known)
    assert all(len(why) > 10 for _, _, why in rows("| setting | default | why |"))


def test_fixed_limits_are_those_of_the_code() -> None:
    for what, value, constant in rows("| limit | value | constant |"):
        module, _, name = constant.strip("`").rpartition(".")
        assert value == str(getattr(importlib.import_module(module), name)), what


def limits_of(package: str) -> set[str]:
    """The constants of a package that are limits by their names, each where it is set, without "netdump."."""
    found = set()
    for path in sorted((ROOT / "netdump" / package).glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [each.id for each in targets if isinstance(each, ast.Name)]
            found |= {f"{package}.{path.stem}.{name}" for name in names if LIMIT.match(name)}
    return found


def test_no_limit_of_the_code_is_missing() -> None:
    """One that is new is either in the table, or somebody has said above what else it is."""
    known = set().union(*map(limits_of, FACING))
    said = {constant.strip("`").removeprefix("netdump.") for _, _, constant in rows("| limit | value | constant |")}
    other = set().union(*NO_PEERS.values())
    protocol = {name for name in known if name.startswith("wire._registry.")}
    assert known - said - other - protocol == set()
    assert other <= known, "gone since"
    assert not other & said


def test_the_tests_that_show_something_exist() -> None:
    for fault, _, shown in rows("| fault there | here | shown by |"):
        assert shown, fault
    for path in re.findall(r"tests/[\w/]+(?:\.py)?", TEXT):
        assert (ROOT / path).exists(), path
