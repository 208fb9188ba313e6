"""What can go wrong on somebody's machine, each with one sentence that says what to do.

Messages are written for the person at the terminal: `muster up` prints them as they are, without a traceback.
"""

from pathlib import Path


class LocalStackError(Exception):
    """The stack cannot do what was asked; the message says why and what to do about it."""


class PortTakenError(LocalStackError):
    """Somebody else listens on a port the stack needs."""


class FolderInUseError(LocalStackError):
    """Another `muster up` owns the data folder."""


class ForeignDataError(LocalStackError):
    """Something stands where the stack keeps its data, and no stack made it."""


class DownloadError(LocalStackError):
    """A file could not be fetched, or what arrived is not what was pinned."""


class MissingPartError(LocalStackError):
    """A package, binary or user account the stack needs is not on this machine."""


class ChildFailedError(LocalStackError):
    """A child process ended, or did not become ready; `last_lines` are the end of its log."""

    def __init__(self, name: str, what: str, log: Path, last_lines: list[str]) -> None:
        super().__init__(f"{name} {what}; its log is {log}")
        self.name = name
        self.what = what
        self.log = log
        self.last_lines = last_lines
