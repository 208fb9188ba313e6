"""What a stack makes in its folder, and how to recognise a stack's folder.

Before anything else, the first start makes a marker file. Without it, `muster up` and `muster reset` refuse a folder
that holds anything under the names below, unless it is plainly the stack of a version that made no marker yet.
"""

from __future__ import annotations

import fnmatch
import json
import os
from pathlib import Path
from typing import Any, Final

from cli.stack.discovery import ISSUER_FOLDER
from cli.stack.settings import PARTS, SECRETS_FILE
from local_stack import issuer_files, servers, stack_file
from local_stack.errors import LocalStackError
from local_stack.folder import LOCK_FILE
from local_stack.kafka.principals import PASSWORDS_FILE
from local_stack.postgres.data import STAGING, has_cluster, is_half_made
from local_stack.private_file import write_private

#: The file that marks the folder as a stack's.
MARKER: Final = "muster-stack"
MARKER_TEXT: Final = "Made by `muster up`; `muster reset` deletes what the stack has made beside this file.\n"

#: How long each step of the last start took, for measurements.
TIMINGS_FILE: Final = "timings.json"

#: Logs beside those of the parts: commands that run once, `muster up --detach`, and the imports that all share.
_OTHER_LOGS: Final = ("roles", "migrate", "topics", "rebuild", "link", "up", "imports")

FILES: Final = (
    SECRETS_FILE,
    TIMINGS_FILE,
    servers.FILE_NAME,
    stack_file.FILE_NAME,
    stack_file.ENVIRONMENT_FILE,
    stack_file.KAFKA_CLIENT_FILE,
)
#: What a stack makes in each of its folders, as patterns of names; `hs_err_pid*` is what a JVM writes when it crashes.
_CLUSTER: Final = ("data", "password", ".password-????????", f"{STAGING}*")
_BROKER: Final = (
    *("data", "recovery.properties", "recovery.log", "format.log", "hs_err_pid*.log"),
    *(f"{PASSWORDS_FILE}", f".{PASSWORDS_FILE}-????????"),
    *("server.properties", ".server.properties-????????", "format.args", ".format.args-????????"),
)
#: Where clusters of PostgreSQL are.
CLUSTERS: Final = ("postgres", "postgres-standby")
_BROKERS: Final = ("kafka", "kafka-2", "kafka-3")
FOLDERS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(CLUSTERS, _CLUSTER),
    **dict.fromkeys(_BROKERS, _BROKER),
    ISSUER_FOLDER: tuple(
        f"{prefix}{name}{suffix}" for name in issuer_files.FILES for prefix, suffix in (("", ""), (".", "-????????"))
    ),
    "logs": tuple(f"{name}.log{old}" for name in (*PARTS, *CLUSTERS, *_BROKERS, *_OTHER_LOGS) for old in ("", ".1")),
}
_SECRETS_KEYS: Final = {"IDEMPOTENCY_SECRET", "CURSOR_KEYS"}
_STACK_KEYS: Final = {"layout", "supervisor_pid", "folder", "settings", "processes"}


def is_empty_of_stacks(folder: Path) -> bool:
    """Tell whether nothing in the folder has the name of a stack's data."""
    return not any(os.path.lexists(folder / name) for name in (MARKER, *FILES, *FOLDERS))


def is_marked(folder: Path) -> bool:
    """Tell whether the folder has a stack's marker."""
    marker = folder / MARKER
    try:
        return not marker.is_symlink() and marker.read_text(encoding="utf-8") == MARKER_TEXT
    except (OSError, UnicodeDecodeError):
        return False


def require_own(folder: Path, advice: str) -> bool:
    """Refuse a folder in which something under a stack's names was not made by one.

    Return whether a stack is there that has no marker yet.

    Raises:
        LocalStackError: something was not made by a stack; the message ends with the advice.
    """
    if is_marked(folder):
        return False
    foreign = [folder / name for name in (MARKER, *FILES, *FOLDERS) if _is_something(folder / name)]
    if foreign and not _is_older_stack(folder):
        raise LocalStackError(f"{foreign[0]} was not made by a stack, so nothing in {folder} was touched. {advice}")
    return bool(foreign)


def mark(folder: Path) -> None:
    """Make the marker. Only the folder's owner may call this, and only after `require_own`."""
    if not is_marked(folder):
        write_private(folder / MARKER, MARKER_TEXT)


def made_by_stack(folder: Path) -> list[Path]:
    """Return what a stack has made in its folder, in the order in which to delete it; the marker comes last.

    A folder comes after its contents; delete it only if nothing else is in it.

    Raises:
        LocalStackError: something under one of these names is a link, or of another kind than a stack makes.
    """
    made: list[Path] = []
    for name, patterns in FOLDERS.items():
        below = folder / name
        if _is_there(below, is_folder=True):
            made += [path for path in sorted(below.iterdir()) if _is_made(path, patterns)]
            made.append(below)
    made += [folder / name for name in FILES if _is_there(folder / name, is_folder=False)]
    made += [path for path in sorted(folder.glob(".*-????????")) if _is_left_over(path)]
    return [*made, *(folder / name for name in (MARKER, LOCK_FILE) if os.path.lexists(folder / name))]


def _is_made(path: Path, patterns: tuple[str, ...]) -> bool:
    if not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns):
        return False
    if path.name.startswith(STAGING):
        return is_half_made(path)
    is_cluster = path.name == "data" and path.parent.name in CLUSTERS  # may be a link of ours: postgres/data.py
    return is_cluster or _is_there(path, is_folder=path.name == "data")


def _is_left_over(path: Path) -> bool:
    """Tell whether a killed run left this file unfinished (private_file.py)."""
    return path.name[1:-9] in {*FILES, MARKER} and path.is_file() and not path.is_symlink()


def _is_there(path: Path, *, is_folder: bool) -> bool:
    """Tell whether the path exists; refuse a link, or a file in place of a folder."""
    if not os.path.lexists(path):
        return False
    if path.is_symlink():
        raise LocalStackError(
            f"{path} is a link to {path.readlink()} that no stack made, so nothing was touched: "
            "remove the link, then try again."
        )
    if path.is_dir() != is_folder:
        raise LocalStackError(f"{path} was not made by a stack, so nothing was touched: move it away, then try again.")
    return True


def _is_something(path: Path) -> bool:
    """Tell whether anything is there beyond an empty folder."""
    if not os.path.lexists(path):
        return False
    return path.is_symlink() or not path.is_dir() or any(path.iterdir())


def _is_older_stack(folder: Path) -> bool:
    """Tell whether a version without the marker made it: it has secrets or a stack.json beside data."""
    servers = has_cluster(folder / "postgres" / "data") or (folder / "kafka" / "data" / "meta.properties").is_file()
    names_secrets = _keys(folder / SECRETS_FILE) >= _SECRETS_KEYS
    return servers and (names_secrets or _keys(folder / stack_file.FILE_NAME) >= _STACK_KEYS)


def _keys(file: Path) -> set[str]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(content) if isinstance(content, dict) else set()
