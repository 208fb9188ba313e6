"""How commands print what others wrote."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from cli.terminal.output import counted, legible, print_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ünïcode and [/markup]", "Ünïcode and [/markup]"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\r\nb\x9b2J", r"a\r\nb\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert legible(text) == shown


def test_a_noun_is_singular_after_one_alone() -> None:
    assert [counted(number, "user") for number in (0, 1, 1200)] == ["0 users", "1 user", "1,200 users"]


def test_times_are_written_as_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 11, 22, 21, 30, tzinfo=timezone(timedelta(hours=1)))})

    assert json.loads(capsys.readouterr().out) == {"at": "2026-11-22T20:30:00.000000Z"}
