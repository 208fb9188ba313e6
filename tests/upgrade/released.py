"""The version that is upgraded from: the commit that `RELEASED` names, in a worktree with an environment of its own.

Both stay in `.local/upgrade`, so only the first run builds. Packages come from wherever this checkout's came from, and
from the same cache.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
BUILD_SECONDS: Final = 900.0
GIT_SECONDS: Final = 120.0
#: What make tells a make that it starts: the options and variables of the outer one are not the inner one's.
_OF_MAKE: Final = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "PYTHON")


class NotBuiltError(Exception):
    """There is nothing to upgrade from; the message says why, and what to do."""


def released() -> str:
    """The commit, or the tag of a release."""
    return (Path(__file__).with_name("RELEASED")).read_text(encoding="utf-8").strip()


def commit_of(revision: str, checkout: Path = CHECKOUT) -> str:
    """The full name of a commit that is in the checkout's history.

    Raises:
        NotBuiltError: the history does not reach so far back, as in a shallow clone.
    """
    found = _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        shallow = _git(checkout, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
        why = (
            "this is a shallow clone: `git fetch --unshallow --tags`" if shallow else "`git fetch --tags` may bring it"
        )
        raise NotBuiltError(
            f"The released commit {revision} (tests/upgrade/RELEASED) is not in the history here; {why}."
        )
    return found.stdout.strip()


def build(commit: str, checkout: Path = CHECKOUT) -> str:
    """Make the worktree and its environment, where they are not there, and return the path of its `muster`.

    Raises:
        NotBuiltError: that failed.
    """
    place = checkout / ".local" / "upgrade" / commit[:12]
    if _git(place, "rev-parse", "HEAD").stdout.strip() != commit:
        # One whose folder was deleted is still listed.
        _git(checkout, "worktree", "prune")
        made = _git(checkout, "worktree", "add", "--detach", str(place), commit)
        if made.returncode:
            raise NotBuiltError(f"git could not make a worktree of {commit[:12]}: {made.stderr.strip()}")
    environment = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}
    built = subprocess.run(["make", ".venv/.local"], cwd=place, env=environment, timeout=BUILD_SECONDS, check=False)
    if built.returncode:
        raise NotBuiltError(f"{place} could not be built: see above.")
    return str(place / ".venv" / "bin" / "muster")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
