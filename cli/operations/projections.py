"""The check of a projection's name, for the commands about projections."""

from __future__ import annotations

import typer

from projectors.projections.catalogue import PROJECTIONS


def known_projection(name: str | None) -> str | None:
    """Refuse a name that no projection has; a callback for options and arguments."""
    if name is not None and name not in PROJECTIONS:
        raise typer.BadParameter(f"there is no projection named {name!r}; there are {', '.join(PROJECTIONS)}")
    return name
