"""Personal data as others may see it on a screen: enough to recognise, too little to read."""

from __future__ import annotations

import json
from typing import Any, Final

_DOTS: Final = "•••"
#: What of a user, and of a change, is about a person.
PERSONAL: Final = frozenset({"email", "username", "display_name", "attributes"})


def mask(value: Any) -> str:
    """The first character, and of an address the domain's too."""
    if not isinstance(value, str):
        return _DOTS if value is not None else ""
    local, at, domain = value.rpartition("@")
    return f"{local[:1]}{_DOTS}@{domain[:1]}{_DOTS}" if at else f"{value[:1]}{_DOTS}"


def shown(name: str, value: Any, *, clear: bool) -> str:
    """A member of a user as text; masked where it is personal and not to be shown in clear."""
    if value is None or value == {}:
        return ""
    if name in PERSONAL and not clear:
        return mask(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
