"""How much a plan of PostgreSQL looks at."""

from typing import Any


def rows_looked_at(plan: dict[str, Any]) -> float:
    """The rows of every step of a plan that was run, with those that it took away again.

    `plan` is the `Plan` of `EXPLAIN (ANALYZE, FORMAT JSON)`.
    """
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return float(own + sum(map(rows_looked_at, plan.get("Plans", ()))))
