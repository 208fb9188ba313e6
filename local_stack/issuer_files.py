"""The files of an issuer's folder, for code that trusts the issuer and signs nothing.

They are apart from issuer.py, whose packages take a third of a second to import.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_stack.errors import LocalStackError

PRIVATE_KEY: Final = "private.pem"
KEY_SET: Final = "jwks.json"
DESCRIPTION: Final = "issuer.json"
FILES: Final = (PRIVATE_KEY, KEY_SET, DESCRIPTION)
#: What a local issuer calls itself, and whom its tokens are for, unless somebody says otherwise.
LOCAL_ISSUER: Final = "muster-local"
LOCAL_AUDIENCE: Final = "muster"


class NoIssuerError(LocalStackError):
    """The folder has no issuer in it that can be used; the message says how to make one."""


@dataclass(frozen=True, slots=True)
class Description:
    """What `issuer.json` says: the `iss` and the `aud` of the issuer's tokens."""

    issuer: str
    audience: str


def has_issuer(folder: Path) -> bool:
    """Tell whether an issuer was made in the folder; its private key is the last file to be written."""
    return (folder / PRIVATE_KEY).exists()


def read_description(folder: Path) -> Description:
    """Read what the issuer in the folder calls itself.

    Raises:
        NoIssuerError: there is none, or it cannot be read.
    """
    if not has_issuer(folder):
        raise NoIssuerError(f"{folder} has no issuer: `muster issuer init {folder}` makes one.")
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return Description(str(said["issuer"]), str(said["audience"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged(folder, DESCRIPTION) from error


def damaged(folder: Path, name: str) -> NoIssuerError:
    """Return the error for an issuer with a file that is missing, unreadable or wrong."""
    return NoIssuerError(
        f"{folder} has an issuer that cannot be used, because of {name}: put that file back, or move the folder away "
        f"and make another issuer with `muster issuer init {folder}` (the local stack makes its own when it starts)."
    )
