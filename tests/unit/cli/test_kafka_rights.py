"""Which principals `muster topics --acls` takes, and with which other options."""

from typing import Any

import pytest
import typer

from cli.kafka_rights import Principals, SharedGroupsError, TopicsSettings, rights
from cli.topics import topics

SETTINGS = TopicsSettings.model_construct(projectors_group="staff", relay_name="other", events_topic="e")


@pytest.mark.parametrize("name", ["*", "User:*", "User:", " "])
def test_everybody_and_nobody_are_no_principals(name: str) -> None:
    with pytest.raises(ValueError, match="names no principal"):
        rights(Principals(relay=name, projectors="p", events="e"), SETTINGS)


@pytest.mark.parametrize("name", ["staff", "User:staff", "staff.users"])
def test_no_subscriber_is_given_the_projectors_groups(name: str) -> None:
    with pytest.raises(ValueError, match="PROJECTORS_GROUP"):
        rights(Principals(relay="r", projectors="p", events="e", subscribers=[name]), SETTINGS)


@pytest.mark.parametrize("names", [("news", "news.letters"), ("news.letters", "User:news"), ("a.b", "x", "a.b.c.d")])
def test_no_subscriber_is_given_the_groups_of_another(names: tuple[str, ...]) -> None:
    with pytest.raises(SharedGroupsError, match="could commit the other's offsets: rename it"):
        rights(Principals(relay="r", projectors="p", events="e", subscribers=names), SETTINGS)


def test_names_that_merely_begin_alike_share_no_group() -> None:
    names = ["news", "news", "newsletter", "news-letters", "letters.news"]

    given = {str(acl) for acl in rights(Principals(relay="r", projectors="p", events="e", subscribers=names), SETTINGS)}
    assert "User:news may READ group news.*" in given


def test_rights_follow_the_settings() -> None:
    given = {str(acl) for acl in rights(Principals(relay="CN=r", projectors="User:p", events="v"), SETTINGS)}

    assert "User:CN=r may WRITE transactional id muster.relay.other" in given
    assert "User:p may READ group staff.*" in given
    assert {"User:v may READ topic e", "User:v may DESCRIBE group *"} <= given


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"acls": True, "relay": "r"}, "--acls needs --projectors and --events"),
        ({"relay": "r"}, "go with --acls"),
        ({"dry_run": True}, "go with --acls"),
        ({"subscriber": ["s"]}, "go with --acls"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        topics(**options)

    assert ended.value.exit_code == 2
    assert said in capsys.readouterr().err
