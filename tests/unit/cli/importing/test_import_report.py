"""What `muster import` shows on the way and at its end."""

from io import StringIO

import pytest
from rich.console import Console

from cli.importing.display import PLAIN_SECONDS, Display
from cli.importing.progress import ImportProgress
from cli.importing.refusals import EXAMPLES, KINDS, OTHER, Kinds, count_refusal, described


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(progress: ImportProgress, *steps: tuple[float, int, int], terminal: bool = False, quiet: bool = False) -> str:
    """What is written by steps, each so many seconds after the one before and at these bytes and lines."""
    out, clock = StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=120)
    with Display(progress, console, quiet=quiet, clock=clock) as display:
        for seconds, progress.offset, progress.line in steps:
            clock.now += seconds
            display.show(progress)
    return out.getvalue()


def test_without_a_terminal_a_plain_line_says_now_and_then_how_far_it_is() -> None:
    progress = ImportProgress(size=8000, mtime_ms=0, offset=4000, line=400, failed=7)

    text = shown(progress, (PLAIN_SECONDS - 1, 4500, 450), (1, 5000, 500), (1, 5100, 510), (PLAIN_SECONDS, 6000, 4200))

    assert text == "500 lines, 10/s, 7 refused, 0:00:30 left\n4,200 lines, 181/s, 7 refused, 0:00:21 left\n"


def test_how_long_standard_input_is_nobody_knows() -> None:
    progress = ImportProgress(size=0, mtime_ms=0)

    assert shown(progress, (PLAIN_SECONDS, 500, 50)) == "50 lines, 5/s, 0 refused\n"


def test_a_terminal_has_a_bar_with_rate_and_time_left() -> None:
    text = shown(ImportProgress(size=1000, mtime_ms=0), (PLAIN_SECONDS, 500, 50), terminal=True)

    assert "50 lines, 5/s, 0 refused, 0:00:10 left" in text
    assert "0.5/1.0 kB" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_with_json_nothing_is_shown(terminal: bool) -> None:
    assert not shown(ImportProgress(size=9, mtime_ms=0), (PLAIN_SECONDS, 5, 5), terminal=terminal, quiet=True)


def wrong(*fields: str) -> dict[str, object]:
    errors = [{"detail": f"{field} is wrong", "pointer": f"#{field}"} for field in fields]
    return {"type": "/problems/validation-error", "detail": "something is wrong", "errors": errors}


def test_refusals_are_counted_by_problem_and_field_the_most_frequent_first() -> None:
    kinds: Kinds = {}
    count_refusal(kinds, 1, {"type": "/problems/email-taken", "detail": "Another user has this address."})
    for number in range(2, 2 + EXAMPLES + 1):
        count_refusal(kinds, number, wrong("/email", "/username"))
    count_refusal(kinds, 9, wrong(""))

    assert described(kinds) == [
        "        4  validation-error #/email (lines 2, 3, 4, …), the first: /email is wrong",
        "        4  validation-error #/username (lines 2, 3, 4, …), the first: /username is wrong",
        "        1  email-taken (line 1): Another user has this address.",
        "        1  validation-error (line 9): something is wrong",
    ]


def test_what_a_file_says_does_not_reach_the_terminal_as_it_is() -> None:
    kinds: Kinds = {}
    count_refusal(kinds, 1, wrong("/\x1b[2J"))

    assert "\x1b" not in described(kinds)[0]


def test_the_kinds_are_bounded() -> None:
    kinds: Kinds = {}
    for number in range(KINDS + 10):
        count_refusal(kinds, number, wrong(f"/field{number}"))

    assert (len(kinds), kinds[OTHER]["count"]) == (KINDS + 1, 10)
