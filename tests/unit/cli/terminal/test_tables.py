"""Tables show every value whole, whatever the width."""

from io import StringIO

import pytest
from rich.console import Console

from cli.terminal.tables import print_table, table

ID = "01a20527-4a79-7189-ad14-d2257e78755e"


def test_nothing_is_left_out_on_a_narrow_terminal_and_the_whole_column_stays_whole() -> None:
    listed = table("user", "why", whole="user")
    listed.add_row(ID, "a_reason_that_is_one_long_word_and_would_have_been_cut")
    narrow = StringIO()

    Console(file=narrow, width=60).print(listed)

    assert ID in narrow.getvalue()
    assert "…" not in narrow.getvalue()


def test_a_row_is_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    listed = table("user", "why")
    listed.add_row(ID, "long " * 100 + "end")

    print_table(listed)

    [row] = [line for line in capsys.readouterr().out.splitlines() if ID in line]
    assert "end" in row
