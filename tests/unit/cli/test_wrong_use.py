"""What cannot be meant is refused with exit code 2, before any server is asked."""

import pytest

from cli.main import COMMANDS, load_command


def run(*arguments: str) -> int | str | None:
    """Run a command here; gives its exit code."""
    with pytest.raises(SystemExit) as ended:
        load_command(arguments[0], COMMANDS[arguments[0]]).main(list(arguments[1:]))
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["parked", "list", "--projection", "user"], "no projection named 'user'"),
        (["parked", "retry", "--projection", "user"], "no projection named 'user'"),
        (["rebuild", "rollback", "user"], "no projection named 'user'"),
        (["rebuild", "retire", "user"], "no projection named 'user'"),
        (["events", "tail", "--user", "ada"], "--user"),
        (
            ["events", "tail", "--type", "promoted"],
            "promoted is no type of event: it is one of muster.user.",
        ),
        (["events", "tail", "--from", "monday"], "--from is `beginning`, `now` or a time, and monday is none of them"),
        (["events", "tail", "--from", "2026-11-22T08:30:00"], "an RFC 3339 time such as 2026-11-22T08:30:00Z"),
        (["events", "show", "ada"], "ada is no event's id: give a ce_id"),
        (["events", "schema", "muster.user.registered.v9"], "muster.user.registered.v9 is no type of event"),
        (["import", "nowhere.ndjson", "--url", "127.0.0.1:8000"], "no http or https URL"),
        (["import", "nowhere.ndjson", "--url", "http://a:b"], "no URL"),
        (["up", "--json"], "--json goes with --status"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_offers_what_it_does_not_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert "completion" not in capsys.readouterr().out
