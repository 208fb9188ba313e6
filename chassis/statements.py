"""Statements written in SQLAlchemy Core, compiled once for asyncpg.

The hot paths keep typed columns without paying for the toolkit on every request: a statement is compiled at start to
SQL text with `$1` parameters, and asyncpg runs (and prepares) that text.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.expression import ClauseElement


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text for asyncpg and the names of its parameters, in `$n` order."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]

    def args(self, **values: Any) -> list[Any]:
        """The positional arguments for these named values.

        Raises:
            KeyError: a parameter was not given.
        """
        given = self.constants | values
        return [given[name] for name in self.names]


def compile_statement(statement: ClauseElement) -> Statement:
    """Compile a Core statement; values bound in it (literals) are kept and sent with every execution."""
    compiled: Any = statement.compile(dialect=asyncpg_dialect())  # type: ignore[no-untyped-call]
    return Statement(
        sql=str(compiled),
        names=tuple(compiled.positiontup or ()),
        constants={name: value for name, value in compiled.params.items() if value is not None},
    )
