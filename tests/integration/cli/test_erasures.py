"""`muster erasures` against the event API."""

import json
import os
from datetime import timedelta

import httpx

from chassis.clock import rfc3339, utc_now
from chassis.identifiers import new_id
from chassis.postgres.database import connect, disconnect
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app
from tests.integration.event_api.conftest import make_settings
from tests.integration.muster_processes import Ended, muster
from tests.integration.query_api.real_server import served
from tests.issuing import bearer, token


async def test_erasures_are_listed_and_a_receipt_is_shown_for_people_and_as_it_was_signed(
    kafka: Kafka, topics: Topics, query_database: PostgresAddress
) -> None:
    gone, earlier, nobody, when = new_id(), new_id(), new_id(), utc_now()
    connection = await connect(query_database, application="test")
    await connection.executemany(
        "INSERT INTO users_g1_erased (id, version, erased_at, topic, partition, record_offset, published_at)"
        " VALUES ($1, 2, $2, $3, 3, 812, $2)",
        [(gone, when, topics.events_topic), (earlier, when - timedelta(days=1), topics.events_topic)],
    )
    await disconnect(connection)
    with served(create_app(make_settings(kafka, topics, query_database))) as url:
        told = {**os.environ, "PUBLIC_EVENTS_URL": url, "MUSTER_TOKEN": token(scopes=["operations:read"])}
        async with httpx.AsyncClient(base_url=url, headers=bearer("shop", ["events:read"])) as client:
            await client.post("/subscribers", json={"name": "mailer"})

        async def run(*arguments: str) -> Ended:
            return await muster(told, "erasures", *arguments)

        listed, shown, signed = await run(), await run(str(gone)), await run(str(gone), "--json")
        unknown, wrong = await run(str(nobody)), await run("ann")
        first, second = await run("--limit", "1"), await run("--before", str(gone), "--limit", "2")
        past, no_id, both = (
            await run("--before", str(earlier)),
            await run("--before", "ann"),
            await run(str(gone), "--before", str(earlier)),
        )

    log = f"forgets by {rfc3339(when + timedelta(days=10))}"
    assert all(part in listed.out for part in (str(gone), rfc3339(when), "3:812", log, str(earlier))), listed
    assert "There may be more" not in listed.out + second.out
    assert (str(gone) in first.out, str(earlier) in first.out) == (True, False)
    assert f"`muster erasures --before {gone}`" in first.out
    assert (str(gone) in second.out, str(earlier) in second.out) == (False, True)
    assert past.out == "Nobody was erased before that user.\n"
    assert (no_id.code, no_id.err.startswith("--before must be a UUID")) == (2, True)
    assert (both.code, both.err.startswith("--before is for the list")) == (2, True)
    assert shown.out.splitlines() == [
        f"user: {gone}",
        f"erased at: {rfc3339(when)}",
        "tombstone: 3:812",
        f"log: {log}",
        "subscriber mailer: has not read it",
        "--json has the signature.",
    ]
    receipt = json.loads(signed.out)
    assert (receipt["user_id"], receipt["jws"].count(".")) == (str(gone), 2)
    assert (unknown.code, "404: Nobody of this id was erased" in unknown.err) == (1, True)
    assert (wrong.code, wrong.err.startswith("ID must be a UUID")) == (2, True)
