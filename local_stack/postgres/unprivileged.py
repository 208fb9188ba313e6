"""PostgreSQL refuses to run as root. Where we are root (in a container) it runs as `nobody`, who must reach its files.

A home of mode 700 hides a checkout and its virtual environment from that user. We change no folder's mode: binaries are
copied once to a folder that all can read, and data goes to a folder of its own, with a link in its place.
"""

import os
import pwd
import re
import shutil
import stat
import tempfile
from pathlib import Path

from local_stack.cache import cache_folder, shared_cache_folder
from local_stack.errors import LocalStackError
from local_stack.processes.child import Account

UNPRIVILEGED_USER = "nobody"  # exists on every Linux, owns nothing

# Where root's data goes when that user cannot reach the wanted folder (FHS: state of local programs).
SYSTEM_DATA_FOLDER = Path("/var/lib/muster")

# What `tempfile.mkdtemp` makes of the prefix, so that no other folder is taken for ours.
PLACE_PREFIX = "muster-"
PLACE = re.compile(rf"{PLACE_PREFIX}[a-z0-9_]{{8}}")


def unprivileged_account() -> Account | None:
    """Return the user to drop to; None where we are not root.

    Raises:
        LocalStackError: we are root and the account does not exist.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError as error:
        raise LocalStackError(
            f"PostgreSQL must not run as root and there is no user {UNPRIVILEGED_USER!r} here: create it, "
            "or run as another user."
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)


def anyone_can_reach(folder: Path) -> bool:
    """Tell whether any user may pass through every folder from the root down to this one."""
    resolved = folder.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (resolved, *resolved.parents))


def reachable_cache() -> Path:
    """Return a cache folder that any user can read; make it where it is missing.

    Raises:
        LocalStackError: there is none.
    """
    for folder in (cache_folder(), shared_cache_folder()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if anyone_can_reach(folder):
            return folder
    raise LocalStackError(
        f"PostgreSQL runs as user {UNPRIVILEGED_USER!r} here, and no cache folder is open to that user: "
        "set MUSTER_CACHE to a folder below which everybody may read."
    )


def copy_once(sources: list[Path], target: Path) -> Path:
    """Copy folders into `target`, once; an interrupted copy never counts."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        for source in sources:
            shutil.copytree(source, staging / source.name, symlinks=True)
        staging.chmod(0o755)
        try:
            staging.rename(target)
        except OSError:
            if not target.is_dir():
                raise  # otherwise another process was faster
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def give_folder(folder: Path, account: Account) -> None:
    """Make a private folder for the account, or a link to one where the account cannot reach the place."""
    if folder.is_dir():
        return
    place = folder
    if not anyone_can_reach(folder.parent):
        base = Path(tempfile.gettempdir()) if is_temporary(folder) else SYSTEM_DATA_FOLDER
        base.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=PLACE_PREFIX, dir=base))
        folder.unlink(missing_ok=True)  # a link whose target has gone
        folder.symlink_to(place)
    else:
        place.mkdir()
    place.chmod(0o700)
    os.chown(place, account.uid, account.gid)


def given_place(link: Path) -> Path | None:
    """Return the target of a link that `give_folder` made, even if it is gone; None for anything else.

    The target's name identifies it and, while it exists, its owner, the account that we drop to.
    """
    account = unprivileged_account() if link.is_symlink() else None
    if account is None:
        return None
    place = link.readlink()
    if place.parent not in {SYSTEM_DATA_FOLDER, Path(tempfile.gettempdir())} or not PLACE.fullmatch(place.name):
        return None
    if not os.path.lexists(place):
        return place
    state = place.lstat()
    return place if stat.S_ISDIR(state.st_mode) and state.st_uid == account.uid else None


def is_temporary(folder: Path) -> bool:
    """Tell whether the folder is in the temporary folder."""
    return folder.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
