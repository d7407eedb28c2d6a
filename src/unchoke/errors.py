"""The one exception tree. Each class is a different thing for the caller to *do*; the message says what, where, and what helps.

``exit_code`` is what a command ends with when this error ends it (the table in ``docs/reference/cli.md``); the library ignores it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

#: What went wrong between us and a tracker, for programs. "refused": its own failure reason; "garbage": no answer of its protocol;
#: "http": a status that is no success; "guard": its address leads where a stranger's may not; "": nothing, or an error of ours.
ErrorClass: TypeAlias = Literal[
    "dns", "connect", "timeout", "tls", "http", "refused", "garbage", "guard", "unsupported", ""
]


class UnchokeError(Exception):
    """Base of everything raised on purpose."""

    exit_code = 1


class UnsupportedError(UnchokeError):
    """Valid, but not something this version does."""


class NotFoundError(UnchokeError):
    """The named torrent, file or metadata is not there."""

    exit_code = 3


class NetworkError(UnchokeError):
    """A name did not resolve, a port could not be bound, a connection failed. ``kind`` says which, where a program may ask."""

    exit_code = 6

    def __init__(self, message: str = "", kind: ErrorClass = "") -> None:
        super().__init__(message)
        self.kind: ErrorClass = kind


class PortTakenError(NetworkError):
    """The port the caller named is in use."""


class TimedOutError(UnchokeError):
    """No progress within the time the caller allowed."""

    exit_code = 8


class StoppedError(UnchokeError):
    """The torrent was stopped or removed before it was complete."""

    exit_code = 7


class ProtocolError(UnchokeError):
    """Bytes from a stranger that no correct program sends. Parsers of the wire raise this and nothing else."""

    exit_code = 6


class BencodeError(ProtocolError):
    """Not bencode (BEP 3), or beyond the limits on depth and integer length."""

    exit_code = 26


class MetainfoError(UnchokeError):
    """Not a valid .torrent file (BEP 3, 52)."""

    exit_code = 26


class MagnetError(UnchokeError):
    """Not a valid magnet link (BEP 9)."""

    exit_code = 27


class TrackerError(UnchokeError):
    """A tracker refused, or answered with something that is no answer.

    ``retry_in`` is the tracker's own wish in seconds (BEP 31); ``math.inf`` means never, None means it said nothing.
    ``kind`` is what went wrong, for programs.
    """

    exit_code = 6

    def __init__(self, message: str, retry_in: float | None = None, *, kind: ErrorClass = "garbage") -> None:
        super().__init__(message)
        self.retry_in = retry_in
        self.kind: ErrorClass = kind


class StorageError(UnchokeError):
    """The file system said no; ``path`` is where."""

    exit_code = 17

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ForeignFileError(StorageError):
    """A file stands where the torrent wants to write, and it is not ours (see ``storage/files``)."""


class GoneError(StorageError):
    """Files that were there are not: they were moved or deleted, or their disk was taken away."""


class NoSpaceError(StorageError):
    """The disk is full."""

    exit_code = 9


class DataMismatchError(UnchokeError):
    """Data on disk does not match the torrent's hashes."""

    exit_code = 32
