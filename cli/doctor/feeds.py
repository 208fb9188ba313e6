"""The checks of what feeds the read tables: each projection's generations, and times on the topic that are to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chassis.kafka.client import KAFKA_ERRORS
from chassis.postgres.database import Database, describe
from cli.doctor.findings import Finding, troubles_or_ok
from cli.terminal.outages import DATABASE_OUTAGES
from projectors.consumer import parking
from projectors.consumer.parking import Suspicious, why_flooded
from projectors.operations.lag import GenerationLag, measure
from projectors.operations.topic_ends import dated_ahead
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model.feeding import FeedState

#: Clocks of a broker and of a database's server are seldom further apart.
AHEAD_SECONDS: Final = 60.0


async def examine_feeds(settings: ProjectorSettings) -> list[Finding]:
    """Return a finding for each projection, and one for each topic whose records are dated ahead."""
    try:
        async with Database.open(settings.query_database, application="muster doctor") as database:
            found = await measure(settings, database)
            async with database.connection() as connection:
                now = await connection.fetchval("SELECT extract(epoch FROM now())::float8")
                suspicious = await parking.suspicious(connection)
        topics = sorted({projection.subject.topic(settings) for projection in PROJECTIONS.values()})
        ahead = {
            topic: await dated_ahead(settings, topic, settings.topic_partitions, now + AHEAD_SECONDS)
            for topic in topics
        }
    except (*DATABASE_OUTAGES, *KAFKA_ERRORS) as error:
        remedy = "see the findings of Kafka and of the query database"
        return [Finding(f"feed: {name}", "failed", f"unknown: {describe(error)}", remedy) for name in PROJECTIONS]
    findings = [finding for name in PROJECTIONS for finding in _judge(name, found)]
    findings += [_judge_suspicious(*owner, met) for owner, met in sorted(suspicious.items())]
    return findings + [_judge_times(topic, partitions) for topic, partitions in ahead.items() if partitions]


def _judge(name: str, found: Sequence[GenerationLag]) -> list[Finding]:
    """Fail if the serving generation is not fed, unless projectors have never run; warn about the others."""
    check = f"feed: {name}"
    troubles = [
        Finding(
            check,
            "failed" if one.status == "serving" and not _is_new(one) else "warning",
            f"generation {one.number} ({one.status}) is {one.state}",
            one.reason,
        )
        for one in found
        if one.projection == name and one.state is not FeedState.FED
    ]
    return troubles_or_ok(check, troubles, "every generation is fed")


def _is_new(one: GenerationLag) -> bool:
    """Tell whether feeding has not begun and may begin."""
    return one.state is FeedState.UNASSIGNED and not one.was_fed


def _judge_suspicious(name: str, number: int, met: Suspicious) -> Finding:
    check = f"suspicious records: {name}"
    if met.counted:
        return Finding(
            check, "failed", f"generation {number} {why_flooded(met.counted)}", "let nobody else write there"
        )
    return Finding(
        check,
        "warning",
        f"generation {number} has parked {met.parked:,}: somebody else writes to the topic",
        "`muster parked list` shows them; `muster repair ID…` first for those whom they name, so that the topic's last"
        " record of each is ours again; then `muster parked discard --suspicious` removes them",
    )


def _judge_times(topic: str, partitions: Sequence[int]) -> Finding:
    listed = ", ".join(map(str, partitions))
    return Finding(
        f"times on {topic}",
        "warning",
        f"records of partitions {listed} are dated more than {AHEAD_SECONDS:g} s after the query database's time",
        "synchronise the brokers' clocks with NTP; `muster topics` lets brokers, not writers, date what is to come",
    )
