"""`stack.json`: what runs where, for every command that looks for the local stack.

It has mode 600, since the settings hold passwords, and is replaced atomically, so that a reader sees one state or the
next. An orderly end removes it. After `kill -9` of the supervisor a reader knows it to be stale because nobody owns the
folder; the pid in it may belong to another process by then.

Beside it, `stack.env` has the settings alone as an environment file, for an IDE that runs a process by itself. A shell
can read it too: a value that it would take apart is quoted. `client.properties` lets Kafka's own tools in.
"""

import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local_stack.folder import owner
from local_stack.private_file import write_private

FILE_NAME = "stack.json"
ENVIRONMENT_FILE = "stack.env"
KAFKA_CLIENT_FILE = "client.properties"

# Grows when the layout changes, so that another version's file is not misread.
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
    settings: dict[str, str]  # the variables it started with, beside the terminal's

    @property
    def where(self) -> str:
        """The address at which it answers, for people."""
        # The embedded server must not look as if it could be opened to a network.
        return self.url or f"127.0.0.1:{self.port}" + (", without TLS" if self.name.startswith("postgres") else "")


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    supervisor_pid: int
    started_at: str  # RFC 3339, UTC
    ready_at: str | None  # the same; None while it starts
    folder: str
    settings: dict[str, str]  # the environment that makes any Muster command use this stack
    processes: list[ProcessEntry] = field(default_factory=list)


def write(stack: Stack, kafka_client: str) -> None:
    """Replace the files in the stack's folder; `kafka_client` is what Kafka's own tools are to read."""
    folder = Path(stack.folder)
    write_private(folder / FILE_NAME, json.dumps({"layout": LAYOUT, **asdict(stack)}, indent=2) + "\n")
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in stack.settings.items())
    write_private(folder / ENVIRONMENT_FILE, "".join(lines))
    write_private(folder / KAFKA_CLIENT_FILE, kafka_client)


def read(folder: Path) -> Stack | None:
    """Return the stack that runs on the folder; None where there is none, or its supervisor has died."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, PermissionError, json.JSONDecodeError):
        return None
    current = owner(folder)
    if content.pop("layout", None) != LAYOUT or current is None or current.pid != content["supervisor_pid"]:
        return None
    processes = [ProcessEntry(**entry) for entry in content.pop("processes")]
    return Stack(**content, processes=processes)


def remove(folder: Path) -> None:
    """Remove the files: nothing runs any more."""
    for name in (KAFKA_CLIENT_FILE, ENVIRONMENT_FILE, FILE_NAME):
        (folder / name).unlink(missing_ok=True)
