"""What the overview says: the verdict in words, the last hour, the lines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from console.asking import Failed, OtherProcessError
from console.overview.history import MINUTES, History
from console.overview.observation import Brokers, Observation, Outbox, ReadSide
from console.overview.scrape import Scrape, read
from console.overview.sparkline import sparkline
from console.overview.stations import Station, stations
from console.overview.verdict import STALE_SECONDS, OverviewFinding, findings, verdict
from console.overview.watch import Watch
from console.pages import render
from outbox.relay.backlog import Backlog
from outbox.relay.leadership import Leader
from projectors.operations.lag import GenerationLag, PartitionLag
from read_model.feeding import FeedState

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EMPTY = Backlog(events=0, estimated=False, oldest_seconds=0, set_aside=0, bytes=0)
LEADER = Leader("host:7", None, None)
USERS = GenerationLag(
    "users", 1, 1, "serving", FeedState.FED, "", [PartitionLag(0, 0, 0.5), PartitionLag(1, 0, 1.5)], NOW
)


#: Where the one process of a part is.
HERE, THERE = "http://10.0.0.1:8011", "http://10.0.0.2:8011"


def counted(count: float, *names: str) -> dict[str, Scrape]:
    return {HERE: Scrape(dict.fromkeys(names, count), {}, {})}


def answered(*seconds: float, url: str = HERE) -> dict[str, Scrape]:
    bounds = (0.01, 0.1, 1.0, float("inf"))
    buckets = {bound: float(sum(each <= bound for each in seconds)) for bound in bounds}
    return {url: Scrape({}, {"muster_http_request_seconds": buckets}, {})}


WELL = Observation(
    at=NOW,
    command_api="",
    command_figures=answered(),
    outbox=Outbox(EMPTY, LEADER),
    relay="",
    relay_figures=counted(100, "muster_outbox_published_total"),
    kafka=Brokers({}, 0.02),
    read_side=ReadSide(0, []),
    generations=[USERS],
    projectors="",
    projector_figures={HERE: Scrape({}, {}, {("muster_projector_records_total", "users", 1): 100})},
    query_api="",
    query_figures=answered(),
    event_api="",
    event_figures=answered(),
)
REFUSED = replace(USERS, state=FeedState.REFUSED, reason="another log; `muster rebuild users` builds another")
BEHIND = replace(USERS, partitions=[PartitionLag(0, 900, 45.0), PartitionLag(1, 0, 0.5)])
OLD = Outbox(replace(EMPTY, events=1234, oldest_seconds=61), LEADER)
COMMAND_DATABASE_AWAY = replace(WELL, outbox=Failed("no connection"))
QUERY_DATABASE_AWAY = replace(WELL, read_side=Failed("frozen"), generations=Failed("frozen"))
KAFKA_AWAY = replace(WELL, kafka=Failed("no broker answers"), generations=Failed("Kafka does not answer"))
CASES = [
    (replace(WELL, command_api="away"), "Command API, away"),
    (COMMAND_DATABASE_AWAY, "Command database, no connection"),
    (replace(WELL, outbox=Outbox(EMPTY, None)), "Relay, none leads, so nothing is published"),
    (replace(WELL, relay="kafka: no broker"), "Relay, kafka: no broker"),
    (replace(WELL, outbox=OLD), "Outbox, the oldest of 1,234 events waits for 61 s"),
    (replace(WELL, outbox=Outbox(replace(EMPTY, set_aside=2), LEADER)), "Outbox, 2 set aside"),
    (KAFKA_AWAY, "Kafka, no broker answers"),
    (QUERY_DATABASE_AWAY, "Query database, frozen"),
    (replace(WELL, projectors="does not answer"), "Projectors, does not answer"),
    (replace(WELL, generations=[REFUSED]), "Projection users, refused: another log"),
    (replace(WELL, generations=[BEHIND]), "Projection users, is 45 s behind"),
    (
        replace(WELL, generations=[], read_side=ReadSide(0, ["users"])),
        "Projection users, none of its generations serves",
    ),
    (replace(WELL, read_side=ReadSide(3, [])), "Parked, 3 records wait for a person"),
    (replace(WELL, query_api="away"), "Query API, away"),
    (replace(WELL, event_api="away"), "Event API, away"),
]
#: Where a process is ready and its figures cannot be told, or a look is too old, that is not well either.
UNKNOWN = [
    (replace(WELL, command_figures=Failed("x")), "Command API, its figures cannot be told: x"),
    (replace(WELL, relay_figures=Failed("x")), "Relay, its figures cannot be told: x"),
    (replace(WELL, projector_figures=Failed("x")), "Projectors, its figures cannot be told: x"),
    (replace(WELL, query_figures=Failed("x")), "Query API, its figures cannot be told: x"),
    (replace(WELL, event_figures=Failed("x")), "Event API, its figures cannot be told: x"),
    (replace(WELL, generations=Failed("x")), "Projections, how far they are cannot be told: x"),
    (replace(WELL, at=NOW - timedelta(seconds=STALE_SECONDS + 1)), "the last look was at 2026-11-30 11:59:43 UTC"),
]


def watched(*looks: Observation) -> Watch:
    async def look() -> Observation:
        return looks[-1]

    watch = Watch(look, now=lambda: NOW)
    for seen in looks:
        watch.note(seen)
    return watch


def shown(seen: Observation, before: Observation | None = None) -> str:
    watch = watched(*([before] if before else []), seen)
    said = verdict(seen, NOW)
    there = [] if said.is_stale else stations(watch, seen, findings(seen))
    return render("overview_part.html", seen=seen, verdict=said, stations=there)


def states(seen: Observation) -> dict[str, str]:
    return {station.name: station.state for station in stations(watched(seen), seen, findings(seen))}


def figures(*looks: Observation) -> dict[str, dict[str, str]]:
    def told(station: Station) -> dict[str, str]:
        return dict(station.figures)

    return {station.name: told(station) for station in stations(watched(*looks), looks[-1], findings(looks[-1]))}


def test_a_part_that_is_away_comes_before_what_waits_for_a_person() -> None:
    aside = Outbox(replace(EMPTY, set_aside=2), LEADER)
    seen = replace(WELL, outbox=aside, read_side=ReadSide(3, []), event_api="away")

    said = verdict(seen, NOW)

    assert said.headline == "Not well: Event API, away"
    assert [other.part for other in said.others] == ["Outbox", "Parked"]


def test_all_is_well_where_nothing_is_wrong() -> None:
    page = shown(WELL)

    assert findings(WELL) == []
    assert "All is well" in page
    assert "not well" not in page
    assert "not known" not in page


@pytest.mark.parametrize(
    ("seen", "said"), CASES, ids=[said.partition(",")[0] + str(i) for i, (_, said) in enumerate(CASES)]
)
def test_each_cause_is_named_with_its_part(seen: Observation, said: str) -> None:
    page = shown(seen).replace("&#39;", "'")

    assert f"Not well: {said}" in page
    assert "All is well" not in page
    assert page.count('class="station bad"') == 1


@pytest.mark.parametrize(("seen", "said"), UNKNOWN)
def test_what_is_not_known_is_never_well(seen: Observation, said: str) -> None:
    page = shown(seen)

    assert f"Not known: {said}" in page
    assert "All is well" not in page
    assert 'class="station bad"' not in page


def test_a_look_that_is_too_old_tells_nothing_of_any_station() -> None:
    assert "station" not in shown(replace(WELL, at=NOW - timedelta(seconds=STALE_SECONDS + 1)))
    assert "All is well" in shown(replace(WELL, at=NOW - timedelta(seconds=STALE_SECONDS)))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (COMMAND_DATABASE_AWAY, {"Command API": "not well", "Outbox": "not known", "Relay": "not known"}),
        (replace(COMMAND_DATABASE_AWAY, relay="dead"), {"Command API": "not well", "Relay": "not well"}),
        (QUERY_DATABASE_AWAY, {"Kafka": "well", "Projectors": "not well"}),
        (KAFKA_AWAY, {"Kafka": "not well", "Projectors": "not known"}),
        (replace(KAFKA_AWAY, read_side=Failed("frozen")), {"Kafka": "not well", "Projectors": "not well"}),
        (replace(WELL, generations=Failed("x")), {"Kafka": "well", "Projectors": "not known"}),
    ],
)
def test_what_only_a_part_that_is_away_could_tell_is_not_known(seen: Observation, expected: dict[str, str]) -> None:
    assert {name: states(seen)[name] for name in expected} == expected


def test_what_hangs_together_begins_with_what_is_nearest_to_the_cause() -> None:
    both = replace(KAFKA_AWAY, outbox=OLD, relay="kafka: away", query_api="away", event_figures=Failed("x"))

    assert [finding.part for finding in findings(both)] == ["Relay", "Kafka", "Query API", "Event API"]


def test_a_dead_relay_is_named_where_the_command_database_is_away_too() -> None:
    found = findings(replace(COMMAND_DATABASE_AWAY, relay="does not answer"))

    assert [finding.part for finding in found] == ["Command database", "Relay"]


def test_every_station_has_a_rate_and_percentiles_and_its_last_hour() -> None:
    known = figures(WELL)

    assert len(known) == 7
    assert all({"p50", "p99"} <= set(each) for each in known.values())
    assert all(next(iter(each)) in RATES for each in known.values())
    assert shown(WELL).count('class="spark"') == 7
    graphs = {station.graph.split('aria-label="')[1].split('"')[0] for station in stations(watched(WELL), WELL, [])}
    assert len(graphs) == 7, "no station shows the hour of another"


RATES = {"answers", "takes", "publishes", "arrive", "apply", "sends"}


def test_percentiles_are_of_the_last_minutes_and_rates_of_the_last_look() -> None:
    slow, later = answered(*[0.5] * 1000), NOW + timedelta(seconds=10)
    fast = answered(*[0.5] * 1000, *[0.005] * 100)
    before, after = replace(WELL, query_figures=slow), replace(WELL, query_figures=fast, at=later)
    much_later = replace(after, at=later + timedelta(minutes=6))

    assert figures(before, after)["Query API"] == {"answers": "10 /s", "p50": "5 ms", "p99": "10 ms"}
    assert figures(before, after, much_later)["Query API"]["p50"] == "–"


def test_processes_of_one_part_are_counted_each_for_itself() -> None:
    """A look that saw one and then the other would tell of 199,998 answers a second."""
    few, many = answered(*[0.005] * 10), answered(*[0.5] * 1_000, url=THERE)
    later = NOW + timedelta(seconds=5)
    before = replace(WELL, query_figures=few | many)
    both = replace(WELL, at=later, query_figures=answered(*[0.005] * 60) | answered(*[0.5] * 1_050, url=THERE))
    one_new = replace(WELL, at=later, query_figures=answered(*[0.005] * 60) | answered(0.5, url="http://10.0.0.3:8011"))
    one_anew = replace(WELL, at=later, query_figures=answered(*[0.005] * 60) | answered(0.5, url=THERE))
    other = replace(WELL, at=later, query_figures=many)

    assert figures(before, both)["Query API"] == {"answers": "20 /s", "p50": "10 ms", "p99": "982 ms"}
    assert figures(before, one_new)["Query API"] == {"answers": "10 /s", "p50": "5 ms", "p99": "10 ms"}
    assert figures(before, one_anew)["Query API"]["answers"] == "10 /s"
    assert figures(replace(WELL, query_figures=few), other)["Query API"] == {"answers": "–", "p50": "–", "p99": "–"}


def test_a_part_of_which_one_process_is_ready_is_well_and_says_how_many_are_not() -> None:
    seen = replace(WELL, partly={"Query API": "1 of 2 not ready: starting", "Event API": ""})
    [words] = [station.words for station in stations(watched(seen), seen, []) if station.name == "Query API"]

    assert (findings(seen), states(seen)["Query API"]) == ([], "well")
    assert words == "1 of 2 not ready: starting"


def test_how_old_the_oldest_unread_event_is_stands_at_kafka() -> None:
    assert figures(replace(WELL, generations=[BEHIND]))["Kafka"]["oldest"] == "45 s"
    assert figures(WELL)["Kafka"] | {"oldest": "–", "p50": "20 ms"} == figures(WELL)["Kafka"]
    assert figures(QUERY_DATABASE_AWAY)["Kafka"]["unread"] == "–"


METRICS = """\
# HELP muster_http_request_seconds Time.
# TYPE muster_http_request_seconds histogram
muster_http_request_seconds_bucket{le="0.1",method="GET"} 1.0
muster_http_request_seconds_bucket{le="+Inf",method="GET"} 2.0
muster_http_request_seconds_bucket{le="0.1",method="POST"} 10.0
muster_http_request_seconds_bucket{le="+Inf",method="POST"} 10.0
# TYPE muster_projector_records_total counter
muster_projector_records_total{generation="1",projection="users"} 5.0
muster_projector_records_total{generation="2",projection="users"} 7.0
"""
NAMES = ("muster_http_request_seconds", "muster_projector_records_total")


def test_metrics_are_summed_and_what_is_no_process_of_ours_is_said_to_be_none() -> None:
    known = read(METRICS, "muster_", NAMES)

    assert known.buckets["muster_http_request_seconds"] == {0.1: 11.0, float("inf"): 12.0}
    assert known.counts["muster_projector_records_total"] == 12.0
    assert known.by_generation["muster_projector_records_total", "users", 2] == 7.0
    with pytest.raises(OtherProcessError, match="another process"):
        read(METRICS, "muster_outbox_", NAMES)
    for broken in ("{", '{generation="one",projection="users"} 1', " many"):
        with pytest.raises(OtherProcessError, match="cannot be read"):
            read(f"{METRICS}{NAMES[1]}{broken}\n", "muster_", NAMES)


def test_a_reason_is_text_whatever_is_in_it() -> None:
    page = shown(replace(WELL, query_api="<script>x</script>"))

    assert "<script>x" not in page
    assert findings(replace(WELL, query_api="x")) == [OverviewFinding("Query API", "x")]


def test_rates_are_between_two_looks_and_unknown_where_a_process_began_anew() -> None:
    name = "muster_outbox_published_total"
    later = replace(WELL, at=NOW + timedelta(seconds=5), relay_figures=counted(150, name))

    assert figures(WELL, later)["Relay"]["publishes"] == "10 /s"
    assert figures(WELL, replace(later, relay_figures=counted(3, name)))["Relay"]["publishes"] == "–"


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
