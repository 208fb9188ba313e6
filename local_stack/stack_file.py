"""`stack.json`: what runs where, for every command that wants to find the local stack.

Written with mode 600, since the settings hold passwords, and replaced atomically, so that a reader sees one state or
the next. It is removed at an orderly end; after `kill -9` of the supervisor a reader recognises it by the folder, which
nobody owns: the pid in it may long belong to another process.

Beside it `stack.env` has the settings alone, as an environment file, for an IDE that runs a process of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local_stack.folder import owner
from local_stack.private_file import write_private

FILE_NAME = "stack.json"
ENVIRONMENT_FILE = "stack.env"

# Raised when the layout changes, so that another version's file is not misread.
LAYOUT = 2


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One process of the stack."""

    name: str
    pid: int
    port: int | None
    url: str | None
    log: str
    command: list[str]
    settings: dict[str, str]  # the variables it was started with beyond the common ones


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    supervisor_pid: int
    started_at: str  # RFC 3339, UTC
    ready_at: str | None  # the same; None while it starts
    folder: str
    settings: dict[str, str]  # the environment that makes any Muster command use this stack
    processes: list[ProcessEntry] = field(default_factory=list)

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings as an environment mapping."""
        return self.settings


def write(stack: Stack) -> None:
    """Replace the files in the stack's folder."""
    folder = Path(stack.folder)
    write_private(folder / FILE_NAME, json.dumps({"layout": LAYOUT, **asdict(stack)}, indent=2) + "\n")
    write_private(folder / ENVIRONMENT_FILE, "".join(f"{name}={value}\n" for name, value in stack.settings.items()))


def read(folder: Path) -> Stack | None:
    """Return the stack that runs on the folder; None where none does, or its supervisor has died."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, PermissionError, json.JSONDecodeError):
        return None
    if content.pop("layout", None) != LAYOUT or owner(folder) != content["supervisor_pid"]:
        return None
    processes = [ProcessEntry(**entry) for entry in content.pop("processes")]
    return Stack(**content, processes=processes)


def remove(folder: Path) -> None:
    """Say that nothing runs any more."""
    for name in (ENVIRONMENT_FILE, FILE_NAME):
        (folder / name).unlink(missing_ok=True)
