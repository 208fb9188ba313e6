"""The declaration of a projection: its name, the shape of its tables, and where its readers are notified.

Each projection makes one declaration, beside its tables; `catalogue.py` lists them. Projectors, the query API and the
generations take every fact about a projection from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table


@dataclass(frozen=True, slots=True)
class GenerationTables:
    """The tables of one generation; each projection adds its own by name.

    Their names are `<projection>_g<number>` or `<projection>_g<number>_<suffix>`, by which they are found again.
    """

    metadata: MetaData
    #: The tables (columns `id` and `version`) to look up a user's version in; each user is in exactly one.
    versions: tuple[Table, ...]
    #: The SQL condition, for each of these, of a row that has nothing left but id and version.
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionSchema:
    """A projection as this version of the code knows it."""

    name: str
    #: Grows with every change of the tables or of a stored document; a generation of another shape is rebuilt, not
    #: altered.
    shape: int
    #: Projectors notify here after a commit: the ids of the users whose rows moved, separated by spaces, or nothing for
    #: "many".
    channel: str
    #: Gives the tables of a generation by its number.
    tables: Callable[[int], GenerationTables]
