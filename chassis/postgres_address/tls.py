"""TLS to PostgreSQL, by libpq's names and with libpq's meaning.

A setting that cannot work, or that would protect less than it seems to, is refused when a process starts; so are
authorities beside `allow` and `prefer`, which libpq takes and goes on without TLS. asyncpg reads the files anew for
each connection, so a certificate can be renewed while a process runs.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, ValidationInfo

Mode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

#: The authorities that the system trusts stand under this name, in place of a file.
SYSTEM: Final = "system"
#: A value that was refused itself is replaced by this.
_REFUSED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The protection of the connections to one database."""

    sslmode: Mode = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """The keyword arguments asyncpg.connect takes for it; it knows the files as parts of an address alone."""
        if self.sslrootcert == SYSTEM and self.sslmode != "disable":
            context = ssl.create_default_context()
            if self.sslcert:
                context.load_cert_chain(self.sslcert, self.sslkey)
            return {"ssl": context}
        return {"dsn": "postgresql://?" + urlencode({name: value for name, value in asdict(self).items() if value})}


def _check_authorities(path: str | None, info: ValidationInfo) -> str | None:
    mode = _earlier(info, "sslmode")
    if path is None:
        if mode in {"verify-ca", "verify-full"}:
            raise ValueError(f"{mode} needs the authorities to trust: a PEM file, or the word {SYSTEM}")
    elif mode in {"allow", "prefer"}:
        raise ValueError(f"it protects nobody while SSLMODE is {mode}, which goes on without TLS; set verify-full")
    elif path != SYSTEM:
        _check_certificates(path)
    elif mode in {"require", "verify-ca"}:
        raise ValueError(f"{SYSTEM} needs SSLMODE verify-full: public authorities vouch for any server")
    return path


def _check_certificates(path: str | None) -> str | None:
    if path is not None:
        with _reading("a PEM file of certificates"):
            _client_context().load_verify_locations(path)
    return path


def _check_key(path: str | None, info: ValidationInfo) -> str | None:
    certificate = _earlier(info, "sslcert")
    if certificate is not _REFUSED and (path is None) != (certificate is None):
        raise ValueError("a certificate and its key, SSLCERT and SSLKEY, go together")
    if path and certificate is not _REFUSED:
        with _reading("SSLCERT's own key, in PEM and without a passphrase"):
            # OpenSSL would ask for a password on the terminal if it got none of ours.
            _client_context().load_cert_chain(certificate, path, password="")
            _check_owner_alone(path)
    return path


def _check_owner_alone(path: str) -> None:
    """As libpq does: a key is its owner's alone; one of root's may be read by a group, as in a mounted secret."""
    status = Path(path).stat()
    others = stat.S_IRWXG | stat.S_IRWXO
    if status.st_uid == 0:
        others &= ~stat.S_IRGRP
    if status.st_mode & others:
        mode = stat.S_IMODE(status.st_mode)
        raise ValueError(f"others may use the file (mode {mode:04o}): chmod 600 it, or 640 where it is root's")


def _earlier(info: ValidationInfo, name: str) -> Any:
    """The value of a variable of the same database, declared before this one."""
    return info.data.get(f"{str(info.field_name).rpartition('_')[0]}_{name}", _REFUSED)


def _client_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def _reading(wanted: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise ValueError(f"the file is not {wanted}") from error
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from error


Authorities = Annotated[str | None, AfterValidator(_check_authorities)]
Certificate = Annotated[str | None, AfterValidator(_check_certificates)]
Key = Annotated[str | None, AfterValidator(_check_key)]
