"""What `muster doctor` says of the topics that were ever published to."""

from collections.abc import Mapping

import pytest

from cli.doctor.published import judge_published

TOPIC = "users.events"


@pytest.mark.parametrize(
    ("wanted", "remembered", "there", "result", "remedy"),
    [
        (12, {TOPIC: 12}, {TOPIC: 12}, "ok", ""),
        (12, {}, {TOPIC: 12}, "ok", ""),
        (12, {}, {}, "ok", ""),
        # The setting was changed: back with it.
        (14, {TOPIC: 12}, {TOPIC: 12}, "failed", "set TOPIC_PARTITIONS=12"),
        (14, {}, {TOPIC: 12}, "failed", "set TOPIC_PARTITIONS=12"),
        # The topic was: no setting helps, least of all one that fits it.
        (12, {TOPIC: 12}, {TOPIC: 14}, "failed", "follow docs/how-to/change-the-number-of-partitions.md"),
        (14, {TOPIC: 12}, {TOPIC: 14}, "failed", "follow docs/how-to/change-the-number-of-partitions.md"),
    ],
)
def test_the_remedy_is_never_the_move_that_harms(
    wanted: int, remembered: Mapping[str, int], there: Mapping[str, int], result: str, remedy: str
) -> None:
    [finding] = judge_published(TOPIC, wanted, remembered, there)

    assert (finding.result, finding.remedy) == (result, remedy)


def test_an_old_topic_is_told_of_while_it_is_there() -> None:
    remembered = {TOPIC: 12, "users.events.24": 24}
    _, older = judge_published("users.events.24", 24, remembered, {TOPIC: 12, "users.events.24": 24})

    assert (older.result, older.check) == ("warning", "topic users.events")
    assert "`muster topics --delete users.events`" in older.remedy
    assert len(judge_published("users.events.24", 24, remembered, {"users.events.24": 24})) == 1


def test_a_topic_that_the_relay_publishes_to_is_never_called_old_whatever_the_settings_here_say() -> None:
    """Between two steps of the how-to, or in a shell with another EVENTS_TOPIC."""
    there = {TOPIC: 12, "users.events.24": 24, "older": 6}
    findings = judge_published("users.events.24", 24, {"older": 6, "users.events.24": 24, TOPIC: 12}, there)

    led = next(finding for finding in findings if finding.check == f"topic {TOPIC}")
    assert (led.result, f"set EVENTS_TOPIC={TOPIC}" in led.remedy) == ("failed", True)
    assert [finding.check for finding in findings if "--delete" in finding.remedy] == ["topic older"]
