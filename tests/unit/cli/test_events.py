"""What `muster events` prints without asking a broker."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from cli.events.command import schema
from cli.events.showing import as_line, as_object, show_record
from events.user_events import USER_EVENTS, UserErased, UserRegistered
from tests.integration.projectors.stream import FakeRecord, new_user, record

USER = new_user()


def registered() -> FakeRecord:
    return replace(record(UserRegistered(user=USER), actor="shop"), partition=3, offset=17)


#: In seconds since 1970.
PUBLISHED = registered().timestamp / 1000


def colour(line: Text, words: str) -> str:
    return next(str(span.style) for span in line.spans if line.plain[span.start : span.end] == words)


@pytest.mark.parametrize(
    ("seconds", "lag"),
    [(-1, "0 ms"), (0.2, "200 ms"), (5.04, "5.0 s"), (90, "1.5 min"), (7200, "2.0 h"), (86_400 * 3, "3.0 d")],
)
def test_a_line_says_where_what_whose_by_whom_and_how_long_ago(seconds: float, lag: str) -> None:
    line = as_line(registered(), PUBLISHED + seconds)

    assert f"  3:17  registered  {USER.id}  version 1  by shop  lag {lag}" in line.plain


def test_each_kind_of_event_has_a_colour_of_its_own_on_a_terminal_alone() -> None:
    erased = as_line(record(UserErased(USER.id, 2)), PUBLISHED)
    new = as_line(registered(), PUBLISHED)

    assert (colour(new, "registered"), colour(erased, "erased")) == ("green", "bold red")
    written = io.StringIO()
    Console(file=written).print(erased)
    assert "\x1b" not in written.getvalue()


def test_what_is_no_event_of_ours_is_told_and_cannot_command_the_terminal() -> None:
    forged = replace(registered(), headers=[("ce_type", b"\x1b[2J"), ("ce_id", b"\xff")])
    broken, half = as_line(forged, PUBLISHED), as_line(replace(registered(), headers=[]), PUBLISHED)

    assert "no event of ours" in broken.plain
    assert "the header ce_id is missing" in half.plain
    assert "\x1b" not in broken.plain


def test_an_object_has_everything_there_is() -> None:
    found = as_object(registered(), PUBLISHED + 2)

    assert (found["partition"], found["offset"], found["headers"]["ce_actor"]) == (3, 17, "shop")
    assert found["lag_seconds"] == 2
    assert found["data"]["user"]["username"] == USER.username
    assert as_object(replace(registered(), value=b"{"), PUBLISHED)["data"] == {"undecodable": "{"}


def test_a_record_is_shown_with_headers_and_value_and_nothing_that_a_terminal_obeys() -> None:
    written = io.StringIO()
    user = USER.model_copy(update={"display_name": "Ada\x9b2J"})
    for each in (record(UserRegistered(user=user)), record(UserErased(USER.id, 2))):
        show_record(Console(file=written, soft_wrap=True), each)

    shown = " ".join(written.getvalue().split())
    assert "ce_type muster.user.registered.v1" in shown
    assert '"display_name": "Ada\\x9b2J"' in shown
    assert "no value: a tombstone" in shown


@pytest.mark.parametrize("name", ["registered", "muster.user.registered.v1"])
def test_a_schema_is_printed_by_its_whole_or_short_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema(name)

    assert json.loads(capsys.readouterr().out)["$id"] == "/schemas/muster.user.registered.v1.json"


def test_without_a_type_all_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    schema(None)

    assert list(json.loads(capsys.readouterr().out)) == USER_EVENTS.types()
