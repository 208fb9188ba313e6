"""If-Match (RFC 9110, section 13.1.1): apply the command to the version the client saw, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ANY: Final = "*"
#: One entity tag and what separates it from the next.
_TAG: Final = re.compile(r'\s*(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
#: `5`, or `5.` and anything: the query API adds the shape of its document to the version.
_VERSION: Final = re.compile(r"(?P<version>[1-9]\d{0,18})(?:\..*)?")


class InvalidPreconditionError(ValueError):
    """The header is no list of entity tags."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """The versions a client would have its command applied to; None is any."""

    versions: frozenset[int] | None

    def holds(self, version: int) -> bool:
        """Whether this version is one of them."""
        return self.versions is None or version in self.versions

    @classmethod
    def parse(cls, header: str) -> Precondition:
        """Read an If-Match header; weak tags and tags that are not ours match nothing.

        Raises:
            InvalidPreconditionError: it is not a list of entity tags.
        """
        if header.strip() == _ANY:
            return cls(None)
        versions = set()
        position = 0
        while position < len(header):
            tag = _TAG.match(header, position)
            if tag is None:
                raise InvalidPreconditionError('must be entity tags in double quotes, such as "5", or *')
            position = tag.end()
            version = _VERSION.fullmatch(tag["opaque"])
            if version and not tag["weak"]:
                versions.add(int(version["version"]))
        if not header.strip():
            raise InvalidPreconditionError("is empty; leave it out, or give the ETag you saw")
        return cls(frozenset(versions))


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'
