"""Personal data as others may see it on a screen: enough to recognise, too little to read."""

from __future__ import annotations

import json
from typing import Any, Final

_DOTS: Final = "•••"
#: Members of a user that say nothing about the person. Every other is masked, also one that is new.
OPEN: Final = frozenset({"id", "email_verified", "is_active", "status", "version", "created_at", "updated_at"})


def mask(value: Any) -> str:
    """The first character, and of an address the domain's too."""
    if not isinstance(value, str):
        return _DOTS if value is not None else ""
    local, at, domain = value.rpartition("@")
    return f"{local[:1]}{_DOTS}@{domain[:1]}{_DOTS}" if at else f"{value[:1]}{_DOTS}"


def shown(name: str, value: Any, *, clear: bool) -> str:
    """A member of a user as text; masked unless it is to be shown in clear or says nothing about the person."""
    if value is None or value == {}:
        return ""
    if name not in OPEN and not clear:
        return mask(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
