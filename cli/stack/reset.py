"""`muster reset`: deletes the local stack's data, after asking, so that the next start is a first one.

It deletes only what a stack has made, and only in a stack's folder (contents.py): never other contents of the folder,
never through a link that is not ours, and never while a stack runs on it. Everything is checked before the first
deletion, so that a refusal leaves everything as it was.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.stack.contents import CLUSTERS, is_empty_of_stacks, made_by_stack, mark, require_own
from cli.stack.discovery import FolderOption, stack_folder
from cli.terminal.output import fail, say
from local_stack.errors import LocalStackError
from local_stack.folder import RESET, end_orphans, owned_folder
from local_stack.postgres.data import remove_cluster, remove_half_made, require_removable
from local_stack.postgres.server import end_orphan

DELETE_BY_HAND: Final = "If it is to go, delete it by hand."


def reset(
    folder: FolderOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete users, events, secrets, issuer and logs of the local stack, after asking; downloads are kept."""
    where = stack_folder(folder)
    if is_empty_of_stacks(where):
        say(f"There is no stack's data in {where}.")
        return
    try:
        require_own(where, DELETE_BY_HAND)  # before a lock file is made in a folder that is not ours
        with owned_folder(where, RESET) as ownership:
            require_own(where, DELETE_BY_HAND)
            _require_deletable(where)
            _ask(where, yes=yes)
            end_orphans(where)
            ownership.unswept = False
            _delete(where)
    except LocalStackError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or where}: {error.strerror or error}.")
    say(f"The stack's data in {where} is deleted; the next start makes a new one.")


def _require_deletable(folder: Path) -> None:
    """Refuse if something that would be deleted must not be; delete nothing."""
    made_by_stack(folder)
    for name in CLUSTERS:
        require_removable(folder / name / "data")


def _ask(folder: Path, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        fail("Nothing was deleted: say --yes where nobody can be asked.")
    if not typer.confirm(f"Delete all users, events, secrets, the issuer and the logs of the stack in {folder}?"):
        fail("Nothing was deleted.")


def _delete(folder: Path) -> None:
    """Delete what the stack has made; a folder with other contents stays."""
    mark(folder)  # if it is interrupted from here on, it can be run again
    _require_deletable(folder)  # once more: it may be long since the question was asked
    clusters = [folder / name for name in CLUSTERS]
    for path in made_by_stack(folder):
        if path.parent in clusters and path.name == "data":
            end_orphan(path.resolve())
            remove_cluster(path)
        elif path.parent == folder and path.is_dir():
            with suppress(OSError):  # it has other contents
                path.rmdir()
        elif path.parent in clusters and path.is_dir():
            remove_half_made(path.parent)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # as above, or the next stack has made its lock file already
        folder.rmdir()
