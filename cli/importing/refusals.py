"""The refusals of an import's API, by kind: for the report at its end, and for the progress file."""

from __future__ import annotations

from typing import Any, Final, TypedDict

from cli.terminal.output import legible

#: More are counted as one: a file in which every line is wrong in its own way would fill the memory.
KINDS: Final = 50
OTHER: Final = "other"
#: Lines of a kind that are named.
EXAMPLES: Final = 3


class RefusalKind(TypedDict):
    """The lines that were refused for one reason."""

    count: int
    #: The first of them.
    lines: list[int]
    #: The words about the first.
    detail: str


#: Kinds by problem type and, where one is to blame, field: `validation-error #/email`.
Kinds = dict[str, RefusalKind]


def count_refusal(kinds: Kinds, number: int, problem: dict[str, Any]) -> None:
    """Add a refused line; one with several reasons is counted for each."""
    for name, detail in _reasons(problem).items():
        known = name if name in kinds or len(kinds) < KINDS else OTHER
        kind = kinds.setdefault(known, RefusalKind(count=0, lines=[], detail=detail))
        kind["count"] += 1
        if len(kind["lines"]) < EXAMPLES:
            kind["lines"].append(number)


def _reasons(problem: dict[str, Any]) -> dict[str, str]:
    slug = problem["type"].rpartition("/")[2]
    fields = {error["pointer"]: error["detail"] for error in problem.get("errors", ()) if len(error["pointer"]) > 1}
    return {f"{slug} {pointer}": detail for pointer, detail in fields.items()} or {slug: problem["detail"]}


def described(kinds: Kinds) -> list[str]:
    """A line for each kind, the most frequent first."""
    most_first = sorted(kinds.items(), key=lambda item: -item[1]["count"])
    return [f"{kind['count']:>9,}  {legible(name)} {_said(kind)}" for name, kind in most_first]


def _said(kind: RefusalKind) -> str:
    """The lines, and what was said of the first: of the others it may be something else."""
    numbers, detail = ", ".join(map(str, kind["lines"])), legible(kind["detail"])
    if kind["count"] == 1:
        return f"(line {numbers}): {detail}"
    return f"(lines {numbers}{', …' * (kind['count'] > len(kind['lines']))}), the first: {detail}"
