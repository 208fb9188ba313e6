"""What the overview says: the verdict in words, the last hour, the lines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from console.overview.history import MINUTES, History
from console.overview.observation import Failed, Observation, Outbox, Projecting
from console.overview.sparkline import sparkline
from console.overview.stations import stations
from console.overview.verdict import Finding, findings
from console.overview.watch import Watch
from console.pages import render
from outbox.figures import RelayFigures
from outbox.relay.backlog import Backlog
from outbox.relay.leadership import Leader
from projectors.operations.lag import GenerationLag, PartitionLag
from read_model.feeding import FeedState

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EMPTY = Backlog(events=0, estimated=False, oldest_seconds=0, set_aside=0)
LEADER = Leader("host:7", None, None)
USERS = GenerationLag(
    "users", 1, 1, "serving", FeedState.FED, "", [PartitionLag(0, 0, 0.5), PartitionLag(1, 0, 1.5)], NOW
)
WELL = Observation(
    at=NOW,
    command_api="",
    query_api="",
    event_api="",
    outbox=Outbox(EMPTY, LEADER),
    relay=RelayFigures("http://relay", leads=True, published=100, publish_seconds={"p50": 0.01, "p99": 0.02}),
    relay_ready="",
    generations=[USERS],
    parked=0,
    projectors=Projecting({("users", 1): 100}, {("users", 1): {"p50": 0.002, "p99": 0.01}}),
    projectors_ready="",
)
REFUSED = replace(USERS, state=FeedState.REFUSED, reason="another log; `muster rebuild users` builds another")
BEHIND = replace(USERS, partitions=[PartitionLag(0, 900, 45.0), PartitionLag(1, 0, 0.5)])
OLD = Outbox(replace(EMPTY, events=1234, oldest_seconds=61), LEADER)
CASES = [
    (replace(WELL, command_api="away"), "Command API, away"),
    (replace(WELL, outbox=Failed("no connection")), "Command database, no connection"),
    (replace(WELL, outbox=Outbox(EMPTY, None)), "Relay, none leads, so nothing is published"),
    (replace(WELL, relay_ready="kafka: no broker"), "Relay, kafka: no broker"),
    (replace(WELL, outbox=OLD), "Outbox, the oldest of 1,234 events waits for 61 s"),
    (replace(WELL, outbox=Outbox(replace(EMPTY, set_aside=2), LEADER)), "Outbox, 2 set aside"),
    (replace(WELL, generations=Failed("no broker answers")), "Kafka, no broker answers"),
    (replace(WELL, parked=Failed("frozen"), generations=Failed("frozen")), "Query database, frozen"),
    (replace(WELL, projectors_ready="does not answer"), "Projectors, does not answer"),
    (replace(WELL, generations=[REFUSED]), "Projection users, refused: another log"),
    (replace(WELL, generations=[BEHIND]), "Projection users, is 45 s behind"),
    (replace(WELL, parked=3), "Parked, 3 records wait for a person"),
    (replace(WELL, query_api="away"), "Query API, away"),
    (replace(WELL, event_api="away"), "Event API, away"),
]


def shown(seen: Observation, before: Observation | None = None) -> str:
    async def look() -> Observation:
        return seen

    watch = Watch(look)
    if before is not None:
        watch._note(before)
    watch._note(seen)
    found = findings(seen)
    return render("overview_part.html", seen=seen, findings=found, stations=stations(watch, seen, found))


def test_all_is_well_where_nothing_is_wrong() -> None:
    assert findings(WELL) == []
    assert "All is well" in shown(WELL)
    assert "not well" not in shown(WELL)


@pytest.mark.parametrize(
    ("seen", "said"), CASES, ids=[said.partition(",")[0] + str(i) for i, (_, said) in enumerate(CASES)]
)
def test_each_cause_is_named_with_its_part(seen: Observation, said: str) -> None:
    page = shown(seen).replace("&#39;", "'")

    assert f"Not well: {said}" in page
    assert page.count('class="station bad"') == 1


def test_what_hangs_together_begins_with_what_is_nearest_to_the_cause() -> None:
    both = replace(WELL, outbox=OLD, relay_ready="kafka: away", generations=Failed("away"), query_api="away")

    assert [finding.part for finding in findings(both)] == ["Relay", "Kafka", "Query API"]


def test_a_reason_is_text_whatever_is_in_it() -> None:
    page = shown(replace(WELL, query_api="<script>x</script>"))

    assert "<script>x" not in page
    assert findings(replace(WELL, query_api="x")) == [Finding("Query API", "x")]


def test_rates_are_between_two_looks_and_unknown_where_a_process_began_anew() -> None:
    later = replace(WELL, at=NOW + timedelta(seconds=5), relay=replace(WELL.relay, published=150))

    assert "<dd>10 /s</dd>" in shown(later, before=WELL)
    assert "<dd>10 /s</dd>" not in shown(replace(later, relay=replace(WELL.relay, published=3)), before=WELL)


def test_the_last_hour_has_the_greatest_of_each_minute_and_gaps() -> None:
    history = History()
    for minute, value in ((0, 1.0), (0, 3.0), (0, 2.0), (2, 5.0)):
        history.add("waiting", NOW + timedelta(minutes=minute), value)
    history.add("waiting", NOW + timedelta(minutes=3), None)

    series = history.series("waiting", NOW + timedelta(minutes=3))

    assert len(series) == MINUTES
    assert series[-4:] == [3.0, None, 5.0, None]
    assert history.series("waiting", NOW + timedelta(hours=2)) == [None] * MINUTES


def test_a_line_has_gaps_where_nothing_is_known_and_its_label_is_text() -> None:
    svg = str(sparkline([1.0, 2.0, None, 4.0], '<b>"'))

    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 1
    assert "&lt;b&gt;&#34;" in svg
    assert "NaN" not in str(sparkline([0.0, 0.0, None], "none"))
