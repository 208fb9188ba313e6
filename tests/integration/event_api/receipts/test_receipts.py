"""Subscribers, erasures and receipts over HTTP: what the read side knows of an erasure, and what the log still has."""

import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import httpx
import jwt
import pytest
import rfc8785
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.postgres.database import Connection, connect, disconnect
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app
from event_api.log.positions import LogPosition, PositionSeal
from event_api.receipts.erasures import NoReadTableError, erased_table
from event_api.receipts.forgetting import Looks
from events.user_events import USER_EVENTS, PublicUser, UserErased, UserRegistered
from projectors.decoding.records import RecordDecoder
from projectors.projections.user_subject import USERS
from projectors.projections.users import UsersWriter
from tests.integration.event_api.conftest import client_of, make_settings
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.integration.query_api.real_server import served
from tests.issuing import bearer

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def url(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> Iterator[str]:
    with served(create_app(make_settings(kafka, topics, query_database))) as url:
        yield url


@pytest.fixture
async def api(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything here."""
    async with client_of(url, ["events:read", "operations:read"]) as client:
        yield client


@pytest.fixture
async def reads(query_database: PostgresAddress) -> AsyncIterator[Connection]:
    connection = await connect(query_database, application="test")
    yield connection
    await disconnect(connection)


async def records_of(kafka: Kafka, topic: str, user: PublicUser) -> list[FakeRecord]:
    """A user's records as they are on the topic."""
    consumer = AIOKafkaConsumer(**client_arguments(kafka), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(12)])
        await consumer.seek_to_beginning()
        found: list[FakeRecord] = []
        while not any(each.value is None for each in found):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                found += [each for each in batch if each.key == str(user.id).encode()]
        return found
    finally:
        await consumer.stop()


class Past:
    """Users who lived and were erased, as the log and the read side have it."""

    def __init__(self, kafka: Kafka, publisher: Publisher, reads: Connection) -> None:
        self.kafka, self.publisher, self.reads = kafka, publisher, reads

    async def erase(
        self, topic_id: UUID, *, only_tombstone: bool = False, published: datetime | None = None
    ) -> FakeRecord:
        user = new_user()
        registered = [] if only_tombstone else [record(UserRegistered(user=user))]
        await self.publisher.publish([*registered, record(UserErased(user.id, 2))])
        *_, tombstone = await records_of(self.kafka, self.publisher.topic, user)
        await self.reads.execute(
            "INSERT INTO checkpoints (projection, generation, topic, partition, position, topic_id)"
            " VALUES ('users', 1, $1, $2, 0, $3) ON CONFLICT DO NOTHING",
            self.publisher.topic,
            tombstone.partition,
            topic_id,
        )
        change = RecordDecoder(USERS).read(tombstone)
        await UsersWriter(1).apply(self.reads, [change])  # type: ignore[list-item] # it is no poison
        if published is not None:
            await self.reads.execute("UPDATE users_g1_erased SET published_at = $2 WHERE id = $1", user.id, published)
        return tombstone


@pytest.fixture
def past(kafka: Kafka, publisher: Publisher, reads: Connection) -> Past:
    return Past(kafka, publisher, reads)


async def topic_id_of(api: httpx.AsyncClient) -> UUID:
    """As a position names it."""
    position = await position_at_end(api)
    return UUID(bytes=urlsafe_b64decode(position + "==")[1:17])


async def position_at_end(api: httpx.AsyncClient) -> str:
    answer = await api.get(
        "/events", params={"from": "beginning", "limit": 1000}, headers={"Accept": "application/json"}
    )
    assert answer.json()["caught_up"], answer.text
    return str(answer.json()["next"])


def user_of(tombstone: FakeRecord) -> str:
    assert tombstone.key is not None
    return tombstone.key.decode()


async def test_a_receipt_says_who_is_past_and_anybody_can_verify_it(
    url: str, api: httpx.AsyncClient, past: Past, kafka: Kafka
) -> None:
    before = await position_at_end(api)
    tombstone = await past.erase(await topic_id_of(api))
    for name, group in (("copy", None), ("group", f"group-{new_id()}"), ("mailer", None), ("new", None)):
        answer = await api.post("/subscribers", json={"name": name, "group": group})
        assert (answer.status_code, answer.json()["group"]) == (201, group), answer.text
    for name, position in (("copy", await position_at_end(api)), ("mailer", before)):
        answer = await api.put(f"/subscribers/{name}/position", json={"position": position})
        assert answer.status_code == 204, answer.text

    answer = await api.get(f"/erasures/{user_of(tombstone)}")
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    async with httpx.AsyncClient() as anybody:
        keys = jwt.PyJWKSet.from_dict((await anybody.get(f"{url}/receipts/jwks.json")).json())

    jws = receipt.pop("jws")
    kid = jwt.get_unverified_header(jws)["kid"]
    payload = jwt.PyJWS().decode(jws, keys[kid], algorithms=["EdDSA"])
    assert payload == rfc8785.dumps(receipt)
    expected_by = receipt["log"].pop("expected_by")
    time = datetime.fromtimestamp(tombstone.timestamp / 1000, UTC)
    assert datetime.fromisoformat(expected_by) == time + timedelta(days=10)
    assert receipt == {
        "user_id": user_of(tombstone),
        "erased_at": dict(tombstone.headers)["ce_time"].decode(),  # type: ignore[union-attr] # it has one
        "partition": tombstone.partition,
        "offset": tombstone.offset,
        "subscribers": [
            {"name": "copy", "past": True},
            {"name": "group", "past": False},
            {"name": "mailer", "past": False},
            {"name": "new", "past": False},
        ],
        "log": {"forgotten": None},
    }


async def test_a_group_is_past_by_what_it_has_committed(api: httpx.AsyncClient, past: Past, kafka: Kafka) -> None:
    tombstone = await past.erase(await topic_id_of(api))
    group = f"group-{new_id()}"
    await api.post("/subscribers", json={"name": "group", "group": group})
    consumer = AIOKafkaConsumer(**client_arguments(kafka), group_id=group, enable_auto_commit=False)
    partition = TopicPartition(past.publisher.topic, tombstone.partition)
    await consumer.start()
    try:
        consumer.assign([partition])
        said = []
        for offset in (tombstone.offset, tombstone.offset + 1):
            await consumer.commit({partition: offset})
            said.append((await api.get(f"/erasures/{user_of(tombstone)}")).json()["subscribers"])
    finally:
        await consumer.stop()

    assert said == [[{"name": "group", "past": False}], [{"name": "group", "past": True}]]
    [listed] = (await api.get("/subscribers")).json()["data"]
    assert listed["offsets"][tombstone.partition] == tombstone.offset + 1
    assert sum(listed["offsets"]) == tombstone.offset + 1


async def test_a_subscriber_is_its_callers_who_registered_it_alone(url: str, api: httpx.AsyncClient) -> None:
    position = await position_at_end(api)
    body: dict[str, Any] = {"json": {"position": position}}
    codes = [(await api.post("/subscribers", json={"name": "mailer"})).status_code for _ in range(2)]
    headers = bearer("rival", ["events:read"])

    assert codes == [201, 200]
    taken = await api.post("/subscribers", json={"name": "mailer"}, headers=headers)
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/subscriber-taken")
    for method, path, how in (("PUT", "/position", body), ("DELETE", "", {})):
        theirs = await api.request(method, f"/subscribers/mailer{path}", headers=headers, **how)
        nobodys = await api.request(method, f"/subscribers/nobody{path}", **how)
        assert [theirs.status_code, nobodys.status_code] == [404, 404]
    assert (await api.put("/subscribers/mailer/position", **body)).status_code == 204
    assert [len(each["offsets"]) for each in (await api.get("/subscribers")).json()["data"]] == [12]
    operator = bearer("operator", ["operations:write"])
    assert (await api.delete("/subscribers/mailer", headers=operator)).status_code == 204
    assert (await api.get("/subscribers")).json() == {"data": []}


async def test_who_has_named_a_group_is_told_that_its_own_word_does_not_count(api: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"json": {"position": await position_at_end(api)}}
    await api.post("/subscribers", json={"name": "mailer", "group": "mailer.workers"})
    refused = await api.put("/subscribers/mailer/position", **body)
    theirs = await api.put("/subscribers/mailer/position", headers=bearer("rival", ["events:read"]), **body)
    await api.post("/subscribers", json={"name": "mailer"})
    taken = await api.put("/subscribers/mailer/position", **body)

    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/subscriber-has-group")
    assert "what the consumer group mailer.workers has committed" in refused.json()["detail"]
    assert [theirs.status_code, taken.status_code] == [404, 204]


async def test_what_is_wrong_with_a_request_is_said(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("event_api.receipts.subscribers.MOST_SUBSCRIBERS", 1)
    await api.post("/subscribers", json={"name": "mailer"})
    answers = [
        await api.post("/subscribers", json={"name": "../mailer"}),
        await api.post("/subscribers", json={"name": "m", "scope": "all"}),
        await api.post("/subscribers", json={"name": "another"}),
        await api.put("/subscribers/mailer/position", json={"position": "forged"}),
        await api.get("/erasures/no-id"),
        await api.get(f"/erasures/{new_id()}"),
        await api.get("/erasures", params={"limit": 0}),
        await api.get("/erasures", params={"before": "no-id"}),
    ]

    assert [(each.status_code, each.json()["type"].removeprefix("/problems/")) for each in answers] == [
        (422, "validation-error"),
        (422, "validation-error"),
        (409, "too-many-subscribers"),
        (400, "invalid-position"),
        (422, "validation-error"),
        (404, "erasure-not-found"),
        (422, "validation-error"),
        (422, "validation-error"),
    ]
    assert answers[3].json()["errors"][0]["pointer"] == "#/position"


async def test_one_owner_does_not_take_all_names(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("event_api.receipts.subscribers.MOST_OF_AN_OWNER", 1)
    rival = bearer("rival", ["events:read"])
    wanted = [("mailer", None), ("another", None), ("mailer", None), ("another", rival)]
    answers = [await api.post("/subscribers", json={"name": name}, headers=who) for name, who in wanted]

    assert [each.status_code for each in answers] == [201, 409, 200, 201]
    listed = (await api.get("/subscribers")).json()["data"]
    assert [(each["name"], each["owner"]) for each in listed] == [("another", "rival"), ("mailer", "shop")]


async def test_a_position_of_another_log_is_not_acknowledged(
    api: httpx.AsyncClient, kafka: Kafka, topics: Topics
) -> None:
    await api.post("/subscribers", json={"name": "mailer"})
    seal = PositionSeal(make_settings(kafka, topics).position_secrets)
    topic_id = await topic_id_of(api)
    answers = []
    for log_id, partitions in ((new_id(), 12), (topic_id, 11), (topic_id, 12)):
        body = {"position": seal.seal(LogPosition(log_id, 1, (0,) * partitions))}
        answers.append(await api.put("/subscribers/mailer/position", json=body))

    assert [each.status_code for each in answers] == [410, 410, 204]
    assert answers[0].json()["type"] == "/problems/position-gone"


@pytest.mark.parametrize("types", [("muster.user.registered.v1",), ()])
async def test_whoever_has_erasures_filtered_out_cannot_say_that_it_is_past_them(
    api: httpx.AsyncClient, past: Past, types: tuple[str, ...]
) -> None:
    tombstone = await past.erase(await topic_id_of(api))
    # Either some types, or one user.
    wanted: dict[str, Any] = {"type": list(types)} if types else {"user": str(new_id())}
    await api.post("/subscribers", json={"name": "mailer"})

    async def page(**asked: Any) -> str:
        answer = await api.get("/events", params=asked, headers={"Accept": "application/json"})
        assert answer.json()["caught_up"], answer.text
        return str(answer.json()["next"])

    filtered = await page(**wanted, **{"from": "beginning"})
    refused = [
        await api.put("/subscribers/mailer/position", json={"position": position})
        for position in (filtered, await page(after=filtered))
    ]
    receipt = (await api.get(f"/erasures/{user_of(tombstone)}")).json()
    both = await page(**{"type": ["muster.user.registered.v1", "muster.user.erased.v1"], "from": "beginning"})
    taken = await api.put("/subscribers/mailer/position", json={"position": both})
    later = (await api.get(f"/erasures/{user_of(tombstone)}")).json()

    assert [(each.status_code, each.json()["type"]) for each in refused] == [(422, "/problems/erasures-left-out")] * 2
    assert receipt["subscribers"] == [{"name": "mailer", "past": False}]
    assert taken.status_code == 204
    assert later["subscribers"] == [{"name": "mailer", "past": True}]


async def test_erasures_are_listed_newest_first_those_without_a_time_last(
    api: httpx.AsyncClient, reads: Connection
) -> None:
    times = [LONG_AGO + timedelta(hours=number) for number in range(3)]
    ids = [new_id() for _ in range(5)]
    rows = [*zip(ids, [*times, None, None], strict=True)]
    await reads.executemany("INSERT INTO users_g1_erased (id, version, erased_at) VALUES ($1, 2, $2)", rows)

    pages, before = [], None
    for _ in range(4):
        page = (await api.get("/erasures", params={"limit": 2} | ({"before": before} if before else {}))).json()
        pages.append([each["user_id"] for each in page["data"]])
        before = page["next"]
        if before is None:
            break

    assert [each for page in pages for each in page] == [str(ids[number]) for number in (2, 1, 0, 4, 3)]
    assert page["data"][-1] == {
        "user_id": str(ids[3]),
        "erased_at": None,
        "partition": None,
        "offset": None,
        "log": {"forgotten": None, "expected_by": None},
    }


async def test_one_look_after_the_time_says_whether_the_log_has_forgotten_and_is_kept(
    api: httpx.AsyncClient, past: Past, kafka: Kafka, query_database: PostgresAddress, reads: Connection
) -> None:
    topic_id = await topic_id_of(api)
    there = await past.erase(topic_id, published=LONG_AGO)
    gone = await past.erase(topic_id, only_tombstone=True, published=LONG_AGO)
    young = await past.erase(topic_id)
    looks = Looks(query_database, kafka, past.publisher.topic, timedelta(days=10))

    async def told() -> list[bool | None]:
        return [
            (await api.get(f"/erasures/{user_of(each)}")).json()["log"]["forgotten"] for each in (there, gone, young)
        ]

    assert await told() == [None, None, None]
    await looks.look(reads)
    assert await told() == [False, True, None]

    # Whoever is gone is not looked for again, whoever was found is, a day later.
    looked = await reads.fetch("SELECT user_id, looked_at FROM erasure_looks WHERE forgotten")
    await reads.execute("UPDATE erasure_looks SET looked_at = looked_at - interval '25 hours'")
    await looks.look(reads)
    again = await reads.fetch("SELECT user_id FROM erasure_looks WHERE looked_at > now() - interval '1 hour'")
    assert [str(row["user_id"]) for row in looked] == [user_of(gone)]
    assert [str(row["user_id"]) for row in again] == [user_of(there)]


async def test_what_was_found_on_another_log_is_not_told_and_looked_for_anew(
    api: httpx.AsyncClient, past: Past, kafka: Kafka, query_database: PostgresAddress, reads: Connection
) -> None:
    topic_id = await topic_id_of(api)
    gone = await past.erase(topic_id, only_tombstone=True, published=LONG_AGO)
    looks = Looks(query_database, kafka, past.publisher.topic, timedelta(days=10))
    # As a topic that was made again leaves it: the partition may not be there any more.
    await reads.execute("UPDATE users_g1_erased SET topic_id = $1, partition = 99", new_id())
    path = f"/erasures/{user_of(gone)}"

    await looks.look(reads)
    assert (await api.get(path)).json()["log"]["forgotten"] is None
    await reads.execute("UPDATE erasure_looks SET forgotten = true, expected_by = now()")
    await reads.execute("UPDATE users_g1_erased SET topic_id = $1, partition = $2", topic_id, gone.partition)
    told = (await api.get(path)).json()["log"]
    assert told == {"forgotten": None, "expected_by": "2026-01-11T00:00:00.000000Z"}
    await looks.look(reads)
    assert (await api.get(path)).json()["log"]["forgotten"] is True


async def test_a_generation_that_goes_while_it_is_read_is_503(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def just_retired(_: Connection) -> str:
        return "users_g9_erased"

    monkeypatch.setattr("event_api.receipts.erasures.erased_table", just_retired)
    assert [(await api.get(path)).status_code for path in ("/erasures", f"/erasures/{new_id()}")] == [503, 503]


@pytest.mark.parametrize(
    ("serving", "advised"),
    [
        ("shape = shape - 1", "`muster rebuild users` from this version"),
        ("shape = shape + 1", "a newer version has taken over"),
        ("status = 'retired'", "`muster migrate query`"),
    ],
    ids=["older", "newer", "none"],
)
async def test_why_there_is_no_table_to_read_says_what_makes_one(reads: Connection, serving: str, advised: str) -> None:
    await reads.execute(f"UPDATE generations SET {serving} WHERE projection = 'users'")
    with pytest.raises(NoReadTableError, match=advised):
        await erased_table(reads)


async def test_a_broker_that_does_not_answer_fails_the_look_and_says_so(
    api: httpx.AsyncClient,
    past: Past,
    kafka: Kafka,
    query_database: PostgresAddress,
    reads: Connection,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no partition that takes an hour, which is left for another day."""
    await past.erase(await topic_id_of(api), only_tombstone=True, published=LONG_AGO)
    looks = Looks(query_database, kafka, past.publisher.topic, timedelta(days=10))

    async def silent(*_: object) -> NoReturn:
        raise TimeoutError("no answer within 10 s")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr("event_api.receipts.forgetting.bounds_of", silent)
        with pytest.raises(TimeoutError, match="no answer within 10 s"):
            await looks.look(reads)
    assert [each["event"] for each in logs] == []

    monkeypatch.setattr("event_api.receipts.forgetting.PARTITION_SECONDS", 0)
    with structlog.testing.capture_logs() as logs:
        await looks.look(reads)
    assert [(each["event"], each["limit_seconds"]) for each in logs] == [("erasures.look_too_long", 0)]
    assert await reads.fetchval("SELECT forgotten FROM erasure_looks") is None


async def test_what_an_aborted_transaction_left_is_not_forgotten(
    api: httpx.AsyncClient, past: Past, kafka: Kafka, query_database: PostgresAddress, reads: Connection
) -> None:
    tombstone = await past.erase(await topic_id_of(api), only_tombstone=True, published=LONG_AGO)
    left = record(UserRegistered(user=new_user()))
    await past.publisher.publish([replace(left, key=tombstone.key)], abort=True)

    await Looks(query_database, kafka, past.publisher.topic, timedelta(days=10)).look(reads)

    assert await reads.fetchval("SELECT forgotten FROM erasure_looks") is False


async def test_what_was_promised_first_stands_whatever_the_settings_say_later(
    api: httpx.AsyncClient, past: Past, kafka: Kafka, topics: Topics, query_database: PostgresAddress
) -> None:
    tombstone = await past.erase(await topic_id_of(api))
    path = f"/erasures/{user_of(tombstone)}"
    first = (await api.get(path)).json()["log"]
    shorter = make_settings(kafka, topics, query_database, TOPIC_MAX_COMPACTION_LAG_MS=1000)
    with served(create_app(shorter)) as another:
        async with client_of(another, ["operations:read"]) as client:
            later = (await client.get(path)).json()["log"]

    assert later == first


async def test_without_its_database_receipts_are_503_and_events_flow(kafka: Kafka, topics: Topics) -> None:
    with served(create_app(make_settings(kafka, topics))) as url:
        async with client_of(url, ["events:read", "operations:read"]) as client:
            receipt = await client.get(f"/erasures/{new_id()}")
            subscriber = await client.post("/subscribers", json={"name": "mailer"})
            page = await client.get("/events", headers={"Accept": "application/json"})

    assert [receipt.status_code, subscriber.status_code, page.status_code] == [503, 503, 200]
    assert receipt.headers["retry-after"] == "1"
    assert "127.0.0.1" not in receipt.text


async def test_the_catalogue_shows_people_and_programs_every_type_with_examples_and_what_holds(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as anybody:
        program = await anybody.get("/events/catalogue")
        person = await anybody.get("/events/catalogue", headers={"Accept": "text/html,*/*;q=0.8"})

    types = program.json()["types"]
    assert [each["type"] for each in types] == USER_EVENTS.types()
    assert all(each["examples"] and each["schema"]["$id"].endswith(f"{each['type']}.json") for each in types)
    assert person.headers["content-type"].startswith("text/html")
    policy = person.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert all(each["type"] in person.text for each in types)
    assert json.dumps(types[0]["examples"][0]["key"]).strip('"') in person.text
