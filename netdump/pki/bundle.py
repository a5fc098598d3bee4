"""The bundle: one file, client.toml, with all that a host or analyst needs to talk to its collector.

Owns the text of the file: writing it after enrolment, reading it for the API's commands, and exchanging key and
certificate in it at renewal without touching what an administrator wrote. The sender in the capture kernel reads the
same file with its own code (netdump/client/config.py). The file holds a private key: it is 0600.
"""

from __future__ import annotations

import codecs
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netdump.client.address import parse_address
from netdump.client.config import BUNDLE_BYTES_MAX, BUNDLE_VERSION, COLLECTORS_MAX
from netdump.errors import BadNameError, BundleError, ConfigError, ConfigMissingError, StorageFaultError
from netdump.pki import durable
from netdump.pki.endpoint import Endpoint
from netdump.pki.names import check_name
from netdump.pki.role import Role

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """\
# netdump: who this machine is, and its collectors. Holds a private key: keep it readable by its owner only.
# Made by `netdump enroll`; settings of `netdump send` go into a table [send] at the end.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What stands in a bundle.

    collectors: HOST:PORT of ingest, tried in order; api: URL; ca, certificate, key: PEM. origin: for messages.
    """

    name: str
    role: Role
    collectors: tuple[str, ...]
    api: Endpoint
    ca: str
    certificate: str
    key: str
    origin: str = "the bundle"

    def __repr__(self) -> str:
        # The generated one would show the key in a traceback or log.
        return f"<Bundle {self.role} {self.name} of {self.api.url}>"

    def text(self) -> str:
        """Return the content of a new bundle file."""
        collectors = ", ".join(json.dumps(each) for each in self.collectors)
        return (
            f"{HEAD}version = {BUNDLE_VERSION}\n"
            f'name = "{self.name}"\nrole = "{self.role}"\n'
            f'collectors = [{collectors}]\napi = "{self.api.url}"\n\n'
            f"[tls]\nca = '''\n{self.ca}'''\ncertificate = '''\n{self.certificate}'''\nkey = '''\n{self.key}'''\n"
        )

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read a bundle file. Raises ConfigMissingError, ConfigError, BundleError."""
        return parse_bundle(read_text(path), str(path))

    def renewed(self, certificate: str, key: str) -> Bundle:
        """Return this bundle with another certificate and key (PEM)."""
        return replace(self, certificate=certificate, key=key)


def read_text(path: Path) -> str:
    """Return the text of a bundle file, up to 1 MiB. Raises ConfigMissingError, ConfigError."""
    try:
        data = durable.read(path, BUNDLE_BYTES_MAX)
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except FileNotFoundError as error:
        raise ConfigMissingError(f"there is no bundle {path}: name it, or make one with `netdump enroll`") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a bundle: it is not UTF-8 text") from error
    except StorageFaultError as error:
        raise ConfigError(str(error)) from error


def parse_bundle(text: str, origin: str) -> Bundle:
    """Read the text of a bundle.

    origin: its path, for messages. Certificates and key are not opened. Raises ConfigError, BundleError.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of which TOMLDecodeError is one, and a number of 5,000 digits none
        raise ConfigError(f"{origin} is not valid TOML ({error}): correct it there, or enroll again") from error
    if document.get("version") != BUNDLE_VERSION:
        raise ConfigError(
            f"{origin}: version is {document.get('version')!r}, this netdump reads {BUNDLE_VERSION}: enroll again"
        )
    tls = document.get("tls")
    if not isinstance(tls, dict):
        raise BundleError(f"{origin} has no table [tls]: enroll again")
    role = _text(document, "role", origin)
    if role not in set(Role):
        raise ConfigError(f"{origin}: role is {role!r}, must be one of {', '.join(Role)}")
    try:
        return Bundle(
            name=check_name(_text(document, "name", origin)),
            role=Role(role),
            collectors=check_collectors(document.get("collectors"), origin),
            api=Endpoint.parse(_text(document, "api", origin)),
            ca=_pem(tls, "ca", origin),
            certificate=_pem(tls, "certificate", origin),
            key=_pem(tls, "key", origin),
            origin=origin,
        )
    except BadNameError as error:
        raise ConfigError(f"{origin}: {error}") from error


def check_collectors(value: object, origin: str) -> tuple[str, ...]:
    """Return 1 to 16 addresses of collectors as HOST:PORT.

    value: from a bundle or from the network. Raises ConfigError.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{origin}: collectors must be a list of HOST:PORT")
    if not 1 <= len(value) <= COLLECTORS_MAX:
        raise ConfigError(f"{origin}: there must be 1 to {COLLECTORS_MAX} collectors, not {len(value)}")
    return tuple(str(parse_address(each)) for each in value)


def exchange(text: str, old: Bundle, new: Bundle) -> str:
    """Return the text of a bundle with the certificate and key of new in place of those of old.

    Everything else stays as it was. Raises BundleError if that is not possible because they do not stand in the file
    letter for letter, once each.
    """
    for pair in ((old.certificate, new.certificate), (old.key, new.key)):
        before, after = (pem.strip() for pem in pair)
        if before not in text:  # as an editor of another system leaves it; to TOML both are one line end
            before, after = (pem.replace("\n", "\r\n") for pem in (before, after))
        if text.count(before) != 1:
            raise BundleError(
                f"{old.origin}: certificate and key do not stand there as `netdump enroll` wrote them: enroll again"
            )
        text = text.replace(before, after)
    if _bare(parse_bundle(text, old.origin)) != _bare(old.renewed(new.certificate, new.key)):
        raise BundleError(f"{old.origin} cannot be changed in place: enroll again")
    return text


def _bare(bundle: Bundle) -> Bundle:
    # Line ends around a PEM text mean nothing, and an administrator may have changed them.
    return bundle.renewed(bundle.certificate.strip(), bundle.key.strip())


def _text(table: dict[str, object], key: str, origin: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{origin}: {key} is missing or not a string")
    return value


def _pem(tls: dict[str, object], key: str, origin: str) -> str:
    value = tls.get(key)
    if not isinstance(value, str) or "-----BEGIN " not in value or not value.isascii():
        raise BundleError(f"{origin}: {key} of [tls] is missing or not a PEM text: enroll again")
    return value
