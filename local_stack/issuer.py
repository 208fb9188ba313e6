"""An issuer on this machine: a folder with keys, which sign tokens for local stacks, tests and first tries.

`private.pem` (Ed25519, PKCS #8, mode 600) signs. `jwks.json` lists its public half and, between a rotation and its
end, older ones: they verify until they are removed. `issuer.json` names issuer and audience.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from chassis.access.keys import public_jwk
from local_stack.issuer_files import (
    DESCRIPTION,
    KEY_SET,
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    PRIVATE_KEY,
    damaged,
    has_issuer,
    read_description,
)
from local_stack.private_file import write_private

ALGORITHM: Final = "EdDSA"

PublicKey = dict[str, str]


class IssuerExistsError(Exception):
    """The folder already has an issuer; another one would end all of its tokens."""


@dataclass(frozen=True, slots=True)
class LocalIssuer:
    """An issuer that was opened."""

    folder: Path
    issuer: str
    audience: str
    key_id: str
    private_key: Ed25519PrivateKey

    def token(  # noqa: PLR0913 - one keyword a claim
        self,
        *,
        subject: str,
        scopes: Iterable[str],
        lifetime: timedelta,
        now: datetime,
        audience: str | None = None,
        claims: dict[str, Any] | None = None,
    ) -> str:
        """An access token (RFC 9068) that is good from `now` on; `claims` come beside the usual ones."""
        said = {
            "iss": self.issuer,
            "aud": audience or self.audience,
            "sub": subject,
            "scope": " ".join(scopes),
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "jti": str(uuid.uuid4()),
            **(claims or {}),
        }
        return jwt.encode(said, self.private_key, ALGORITHM, headers={"typ": "at+jwt", "kid": self.key_id})


def init_issuer(folder: Path, *, issuer: str = LOCAL_ISSUER, audience: str = LOCAL_AUDIENCE) -> LocalIssuer:
    """Make an issuer in the folder.

    Raises:
        IssuerExistsError: there is one.
        OSError: the folder cannot be written.
    """
    if has_issuer(folder):
        raise IssuerExistsError(
            f"{folder} has an issuer already: `muster issuer rotate {quote(str(folder))}` gives it a new key."
        )
    key = Ed25519PrivateKey.generate()
    write_private(folder / DESCRIPTION, json.dumps({"issuer": issuer, "audience": audience}, indent=2) + "\n")
    _write_key_set(folder, [public_jwk(key.public_key())])
    _write_private_key(folder, key)
    return open_issuer(folder)


def open_issuer(folder: Path) -> LocalIssuer:
    """Read the issuer in the folder.

    Raises:
        NoIssuerError: there is none that can be read.
    """
    described = read_description(folder)
    try:
        key = load_pem_private_key((folder / PRIVATE_KEY).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise damaged(folder, PRIVATE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise damaged(folder, PRIVATE_KEY)
    return LocalIssuer(folder, described.issuer, described.audience, public_jwk(key.public_key())["kid"], key)


def rotate(folder: Path) -> LocalIssuer:
    """Sign with a new key from now on; older ones still verify until `remove_older_keys`.

    Whoever reads the key set sees the new key no later than the first token that is signed with it.

    Raises:
        NoIssuerError: there is none that can be read.
        OSError: the folder cannot be written.
    """
    open_issuer(folder)
    key = Ed25519PrivateKey.generate()
    _write_key_set(folder, [public_jwk(key.public_key()), *_listed(folder)])
    _write_private_key(folder, key)
    return open_issuer(folder)


def remove_older_keys(folder: Path) -> LocalIssuer:
    """List only the key that signs now; tokens of older keys end."""
    issuer = open_issuer(folder)
    _write_key_set(folder, [public_jwk(issuer.private_key.public_key())])
    return issuer


def kept_issuer(folder: Path) -> LocalIssuer:
    """Return the issuer in the folder; make one where there is none.

    Raises:
        NoIssuerError: the one that is there cannot be read.
        OSError: the folder cannot be written.
    """
    return open_issuer(folder) if has_issuer(folder) else init_issuer(folder)


def _listed(folder: Path) -> list[PublicKey]:
    try:
        keys: list[PublicKey] = json.loads((folder / KEY_SET).read_text(encoding="utf-8"))["keys"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged(folder, KEY_SET) from error
    return keys


def _write_key_set(folder: Path, keys: list[PublicKey]) -> None:
    path = folder / KEY_SET
    write_private(path, json.dumps({"keys": keys}, indent=2) + "\n")
    # Public keys: services of other users on this machine may read them.
    path.chmod(0o644)


def _write_private_key(folder: Path, key: Ed25519PrivateKey) -> None:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / PRIVATE_KEY, text.decode("ascii"))
