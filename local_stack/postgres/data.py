"""The folder of a PostgreSQL cluster: it appears whole or not at all, and we remove only what a stack made.

`initdb` works in a folder beside it that a file marks as ours; the finished cluster is moved into place by a rename. If
anything else is in that place, it is refused and left alone.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from local_stack.errors import LocalStackError
from local_stack.postgres.unprivileged import give_folder, given_place
from local_stack.processes.child import Account

#: A cluster that is being made: `initdb-…/data`, and beside it the file that marks it as ours for a later start.
STAGING: Final = "initdb-"
CLAIM: Final = "made-by-muster-up"


def has_cluster(data: Path) -> bool:
    """Tell whether a cluster is there."""
    return (data / "PG_VERSION").is_file()


def require_room(data: Path) -> None:
    """Refuse a place for a new cluster if anything in it is not ours.

    Raises:
        LocalStackError: something is there.
    """
    if not os.path.lexists(data) or (not data.is_symlink() and _is_empty(data)):
        return
    place = given_place(data)
    if place is None or (os.path.lexists(place) and not _is_empty(place)):
        what = f"a link to {data.readlink()}" if data.is_symlink() else "there"
        raise LocalStackError(
            f"{data} is {what} and holds no PostgreSQL data; nothing of it was touched. "
            "Move it away, or choose another folder with --folder."
        )


@contextmanager
def new_cluster(data: Path, account: Account | None) -> Iterator[Path]:
    """Yield the folder (links resolved) in which to make the cluster; move it into place at the end of the context.

    Raises:
        LocalStackError: something that we did not make is in its place.
    """
    require_room(data)
    remove_half_made(data.parent)
    staging = data.parent / f"{STAGING}{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        (staging / CLAIM).touch()
        made = staging / data.name
        if account:
            staging.chmod(0o711)  # the account may pass, if its parents let it
            give_folder(made, account)
        yield made.resolve()
        _clear_room(data)
        made.rename(data)
    finally:
        _remove_staging(staging)


def remove_half_made(folder: Path) -> None:
    """Remove what interrupted runs of `initdb` left; the file beside it identifies that."""
    for staging in folder.glob(f"{STAGING}*"):
        if is_half_made(staging):
            _remove_staging(staging)


def is_half_made(path: Path) -> bool:
    """Tell whether an interrupted `initdb` of ours left it."""
    return not path.is_symlink() and (path / CLAIM).is_file() and path.name.startswith(STAGING)


def require_removable(data: Path) -> None:
    """Refuse to remove anything but a cluster of ours.

    Raises:
        LocalStackError: it is a link that we did not make, or no cluster.
    """
    if not os.path.lexists(data) or given_place(data) is not None:
        return
    if data.is_symlink():
        raise LocalStackError(f"{data} is a link to {data.readlink()} that no stack made: remove it, then try again.")
    if not has_cluster(data) and not (data.is_dir() and _is_empty(data)):
        raise LocalStackError(f"{data} holds no PostgreSQL data: move it away, then try again.")


def remove_cluster(data: Path) -> None:
    """Remove the cluster, also where a link leads to it; harmless where there is none.

    Raises:
        LocalStackError: see `require_removable`; nothing was removed.
    """
    require_removable(data)
    if data.is_symlink():
        place = given_place(data)
        if place is not None and place.is_dir():
            shutil.rmtree(place)
        data.unlink()
    elif data.is_dir():
        shutil.rmtree(data)


def _clear_room(data: Path) -> None:
    """Make way for the rename: `require_room` lets only an empty folder or a link of ours pass."""
    require_room(data)
    if data.is_symlink():
        data.unlink()
    elif data.is_dir():
        data.rmdir()


def _remove_staging(staging: Path) -> None:
    made = staging / "data"
    place = given_place(made)
    if place is not None and place.is_dir():
        shutil.rmtree(place)
    shutil.rmtree(staging)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
