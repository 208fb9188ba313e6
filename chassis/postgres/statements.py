"""Statements written in SQLAlchemy Core, compiled once for asyncpg.

The hot paths have typed columns and do not pay for the toolkit on every request: a statement is compiled once, to SQL
text with `$1` parameters, which asyncpg prepares and runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.expression import ClauseElement


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """SQL text for asyncpg and the names of its parameters, in `$n` order."""

    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]
    #: Takes the values of all names at once, in a third of the time of one after the other.
    pick: Callable[[dict[str, Any]], tuple[Any, ...]]

    def args(self, **values: Any) -> tuple[Any, ...]:
        """The positional arguments for these named values.

        Raises:
            KeyError: a parameter was not given.
        """
        return self.pick(self.constants | values if self.constants else values)


def compile_statement(statement: ClauseElement) -> CompiledStatement:
    """Compile a Core statement; values bound in it (literals) are kept and sent with every execution."""
    compiled: Any = statement.compile(dialect=asyncpg_dialect())  # type: ignore[no-untyped-call]
    names = tuple(compiled.positiontup or ())
    return CompiledStatement(
        sql=str(compiled),
        names=names,
        constants={name: value for name, value in compiled.params.items() if value is not None},
        pick=itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[name] for name in names),
    )
