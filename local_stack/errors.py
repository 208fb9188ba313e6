"""What can go wrong on a machine; every message tells the person at the terminal what to do.

`muster up` prints them as they are, without a traceback.
"""

from pathlib import Path


class LocalStackError(Exception):
    """The stack cannot do what was asked; the message says why and what to do about it."""


class DownloadError(LocalStackError):
    """A file could not be fetched, or its hash is not the pinned one."""


class ChildFailedError(LocalStackError):
    """A child process ended, or did not become ready; `last_lines` is the end of its log."""

    def __init__(self, name: str, what: str, log: Path, last_lines: list[str]) -> None:
        super().__init__(f"{name} {what}; its log is {log}")
        self.name = name
        self.what = what
        self.log = log
        self.last_lines = last_lines
