"""Every error that netdump can report, in one tree.

A class stands for one kind of trouble. It carries

``code``
    a slug that stands in JSON output, HTTP answers and docs/errors.md,
``exit_status``
    what the process ends with when the error reaches the command line; unique,
``retryable``
    whether the same request may succeed later without anybody's doing.

The first line of a docstring is the general sentence; the message of an instance says what happened, to which file,
host or dump, and what to do now. Statuses: 10-19 the core, 20-29 settings, 30-39 sending, 40-49 store and index, 50-59
certificates, 60-69 the remote API, 70-79 the collector process, 80-89 commands, 90-109 the capture image and arming.
"""

from __future__ import annotations

from typing import ClassVar


class NetdumpError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False


class CoreError(NetdumpError):
    """The core file cannot be used."""

    code = "core"
    exit_status = 10


class NotElfError(CoreError):
    """The file is not an ELF core of a kernel."""

    code = "core-not-elf"
    exit_status = 11


class EmptyCoreError(CoreError):
    """The core is empty."""

    code = "core-empty"
    exit_status = 12


class TruncatedCoreError(CoreError):
    """The core ends before its headers say it does."""

    code = "core-truncated"
    exit_status = 13


class BadHeadersError(CoreError):
    """The headers of the core contradict themselves or the file."""

    code = "core-headers"
    exit_status = 14


class SourceUnreadableError(CoreError):
    """The core cannot be opened or read."""

    code = "core-unreadable"
    exit_status = 15


class KernelDataError(CoreError):
    """A structure of the dead kernel is absent or makes no sense."""

    code = "kernel-data"
    exit_status = 16


class LostMemoryError(KernelDataError):
    """A page of the dead kernel's memory is not in the core or cannot be read."""

    code = "lost-memory"
    exit_status = 17


class ConfigError(NetdumpError):
    """The settings cannot be used."""

    code = "config"
    exit_status = 20


class ConfigMissingError(ConfigError):
    """A settings file is missing."""

    code = "config-missing"
    exit_status = 21


class BundleError(ConfigError):
    """A key or certificate of the bundle is missing or damaged."""

    code = "bundle"
    exit_status = 22


class SendError(NetdumpError):
    """The dump could not be delivered."""

    code = "send"
    exit_status = 30


class UnreachableError(SendError):
    """No connection to the collector."""

    code = "unreachable"
    exit_status = 31
    retryable = True


class ImpostorError(SendError):
    """Who answers is not the collector."""

    code = "impostor"
    exit_status = 32


class RefusedError(SendError):
    """The collector refuses this client."""

    code = "refused"
    exit_status = 33


class DeclinedError(SendError):
    """The collector does not want this dump."""

    code = "declined"
    exit_status = 34


class DeadlineError(SendError):
    """The deadline passed before the dump was delivered."""

    code = "deadline"
    exit_status = 35


class ProtocolError(NetdumpError):
    """The protocol was broken. Only its two subclasses are raised.

    ``reason`` is the slug of the failure class in ``[error]`` of protocol/registry.toml.
    """

    code = "protocol"
    exit_status = 36

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol does not allow now."""

    code = "protocol-local"
    exit_status = 37


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol."""

    code = "protocol-remote"
    exit_status = 38


class CodecError(NetdumpError):
    """Compressed data is not what it claims to be."""

    code = "codec"
    exit_status = 39


class StoreError(NetdumpError):
    """The store cannot do this."""

    code = "store"
    exit_status = 40


class DamagedError(StoreError):
    """Stored data is damaged."""

    code = "damaged"
    exit_status = 41


class DumpNotFoundError(StoreError):
    """No such dump."""

    code = "not-found"
    exit_status = 42


class AmbiguousIdError(StoreError):
    """The shortened id fits several dumps."""

    code = "ambiguous-id"
    exit_status = 43


class IncompleteDumpError(StoreError):
    """The dump has not arrived completely."""

    code = "incomplete"
    exit_status = 44


class BusyError(StoreError):
    """Another process works on this."""

    code = "busy"
    exit_status = 45
    retryable = True


class StorageFaultError(StoreError):
    """The disk of the store fails or is full."""

    code = "storage"
    exit_status = 46
    retryable = True


class IndexFaultError(StoreError):
    """The index cannot be used.

    ``damaged``: its content makes no sense, so that a new one can only be better. It may otherwise be foreign, of a
    newer version, or out of reach.
    """

    code = "index"
    exit_status = 47

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


class OwnerError(StoreError):
    """The dump belongs to another host."""

    code = "not-owner"
    exit_status = 48


class MismatchError(StoreError):
    """The dump is known with another size, page size or level."""

    code = "mismatch"
    exit_status = 49


class PkiError(NetdumpError):
    """A certificate or key operation failed."""

    code = "pki"
    exit_status = 50


class TokenError(PkiError):
    """The enrolment token is not valid.

    The message is the same whatever is wrong with the token, for it may go to a stranger; ``detail`` says what it
    really is, for the collector's log alone ("" when there is nothing more to say).
    """

    code = "token"
    exit_status = 51

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class NameMismatchError(PkiError):
    """The request is for another name than the token's or certificate's."""

    code = "name-mismatch"
    exit_status = 52


class RevokedError(PkiError):
    """The certificate was revoked."""

    code = "revoked"
    exit_status = 53


class CertificateError(PkiError):
    """A certificate is not acceptable."""

    code = "certificate"
    exit_status = 54


class BadNameError(PkiError):
    """The name cannot stand in a certificate."""

    code = "bad-name"
    exit_status = 55


class SigningRequestError(PkiError):
    """The request for a certificate is not acceptable."""

    code = "signing-request"
    exit_status = 56


class RemoteError(NetdumpError):
    """The collector's API failed."""

    code = "remote"
    exit_status = 60
    retryable = True


class ForbiddenError(RemoteError):
    """The certificate does not allow this."""

    code = "forbidden"
    exit_status = 61
    retryable = False


class BadRequestError(RemoteError):
    """The collector does not understand the request."""

    code = "bad-request"
    exit_status = 62
    retryable = False


class TooManyRequestsError(RemoteError):
    """Too many requests in a short time."""

    code = "rate-limited"
    exit_status = 63


class ServeError(NetdumpError):
    """The collector cannot run."""

    code = "serve"
    exit_status = 70


class NotACollectorError(ServeError):
    """The folder is not a collector's."""

    code = "not-a-collector"
    exit_status = 71


class AlreadyExistsError(ServeError):
    """Something stands where a new thing should be made."""

    code = "exists"
    exit_status = 72


class AddressError(ServeError):
    """The address cannot be listened on."""

    code = "address"
    exit_status = 73


class TroubledError(ServeError):
    """Something about the collector needs somebody."""

    code = "collector-troubled"
    exit_status = 74


class DemoError(NetdumpError):
    """The demo did not show what it should."""

    code = "demo"
    exit_status = 80


class DependencyError(NetdumpError):
    """A Python package that this command needs is missing or broken."""

    code = "dependency"
    exit_status = 81


class OutputError(NetdumpError):
    """What the command has to say cannot be written."""

    code = "output"
    exit_status = 82


class ThreadsError(NetdumpError):
    """The system lets this process start no thread."""

    code = "threads"
    exit_status = 83


class ImageError(NetdumpError):
    """The capture image cannot be built."""

    code = "image"
    exit_status = 90


class DriverError(ImageError):
    """A kernel module that the capture image needs is missing."""

    code = "image-driver"
    exit_status = 91


class NetworkPlanError(ImageError):
    """The network settings for the capture kernel cannot be used."""

    code = "image-network"
    exit_status = 92


class ArmError(NetdumpError):
    """The machine cannot be armed."""

    code = "arm"
    exit_status = 93


class ReservationError(ArmError):
    """The memory reserved for the capture kernel is missing or too small."""

    code = "crashkernel"
    exit_status = 94


class NotArmedError(ArmError):
    """No capture kernel is loaded."""

    code = "not-armed"
    exit_status = 95


class NotReadyError(NetdumpError):
    """The checkup found what keeps this machine from delivering a dump."""

    code = "not-ready"
    exit_status = 96


class DrillError(NetdumpError):
    """The dump of a drill was not delivered."""

    code = "drill"
    exit_status = 97


class KernelMissingError(ImageError):
    """The kernel that is to capture is not installed."""

    code = "image-kernel"
    exit_status = 98


class ProgramsError(ImageError):
    """A part of Python that the capture image needs is missing or broken."""

    code = "image-programs"
    exit_status = 99


class CompressionError(ImageError):
    """The kernel cannot unpack an image of this compression."""

    code = "image-compression"
    exit_status = 100


class SaveFolderError(ImageError):
    """The capture kernel cannot save a dump in this folder."""

    code = "image-save"
    exit_status = 101
