"""Subscribers in the console: who lags, who has not read of an erasure, the receipt, and removing one."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest

from chassis.postgres.database import Connection, connect, disconnect
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app as create_event_api
from events.user_events import UserRegistered
from tests.conftest import kafka_variables
from tests.integration.console.conftest import Browser, Console, make_settings, serving
from tests.integration.event_api.conftest import client_of
from tests.integration.event_api.conftest import make_settings as event_api_settings
from tests.integration.event_api.receipts.test_receipts import Past, position_at_end, topic_id_of, user_of
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.integration.query_api.real_server import served

NOBODY = "01a203c9-2100-7681-90d7-176ca6de65cd"


@dataclass(slots=True)
class Office:
    """A console, the event API as subscribers use it, and people who were erased."""

    console: Console
    api: httpx.AsyncClient
    past: Past

    async def register(self, name: str, group: str | None = None) -> None:
        answer = await self.api.post("/subscribers", json={"name": name, "group": group})
        assert answer.status_code == 201, answer.text

    async def acknowledge(self, name: str, position: str) -> None:
        answer = await self.api.put(f"/subscribers/{name}/position", json={"position": position})
        assert answer.status_code == 204, answer.text

    async def erase(self) -> str:
        """Erase somebody; gives their id."""
        return user_of(await self.past.erase(await topic_id_of(self.api)))


@pytest.fixture
async def reads(query_database: PostgresAddress) -> AsyncIterator[Connection]:
    connection = await connect(query_database, application="test")
    yield connection
    await disconnect(connection)


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher


@pytest.fixture
def events_url(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> Iterator[str]:
    with served(create_event_api(event_api_settings(kafka, topics, query_database))) as url:
        yield url


@pytest.fixture
async def office(  # noqa: PLR0917 - fixtures
    events_url: str,
    kafka: Kafka,
    topics: Topics,
    publisher: Publisher,
    reads: Connection,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
) -> AsyncIterator[Office]:
    told = {**kafka_variables(kafka), "EVENTS_TOPIC": topics.events_topic, "CONSOLE_EVENTS_URL": events_url}
    settings = make_settings(command_database, query_database, **told)
    async with (
        serving(settings, query_database) as console,
        client_of(events_url, ["events:read", "operations:read"]) as api,
    ):
        yield Office(console, api, Past(kafka, publisher, reads))


async def page(browser: Browser) -> str:
    answer = await browser.get("/subscribers")
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(text: str) -> dict[str, list[str]]:
    """What the first table says of each subscriber."""
    table = text.partition("<tbody>")[2].partition("</tbody>")[0]
    found = {}
    for row in table.split("<tr>")[1:]:
        name = re.search(r"<bdi>([^<]+)</bdi>", row)
        assert name is not None
        found[name[1]] = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
    return found


async def test_nobody_has_registered(office: Office) -> None:
    async with office.console.signed_in("operations:read") as browser:
        text = await page(browser)

    assert "Nobody has registered" in text


async def test_who_lags_and_who_has_not_read_of_an_erasure_is_seen_at_first_sight(office: Office) -> None:
    before = await position_at_end(office.api)
    erased = await office.erase()
    for name in ("copy", "mailer", "search"):
        await office.register(name)
    await office.acknowledge("copy", await position_at_end(office.api))
    await office.acknowledge("mailer", before)
    async with office.console.signed_in("operations:read", "operations:write") as browser:
        text = await page(browser)
        await office.acknowledge("mailer", await position_at_end(office.api))
        await office.acknowledge("search", await position_at_end(office.api))
        after = await page(browser)
    headline = text.partition('class="headline">')[2].partition("<")[0]

    assert headline == "1 erased person is not forgotten by everybody"
    assert "<bdi>mailer</bdi> has not read 1 erasure<" in text
    assert "<bdi>copy</bdi> has not read" not in text
    found = rows(text)
    assert [*found] == ["search", "mailer", "copy"] or [*found] == ["mailer", "search", "copy"]
    assert found["copy"][:3] == ["up to date", "0", "0"]
    assert found["mailer"][0] == "behind"
    assert int(found["mailer"][1]) >= 2, "the registration and the tombstone at least"
    assert found["search"][0] == "not known"
    assert f'href="/subscribers/receipts/{erased}"' in text
    assert "<bdi>mailer, search</bdi>" in text
    assert "Everybody has read of every erasure" in after
    assert "All are up to date" in after


async def test_who_has_read_every_record_is_up_to_date_however_much_was_aborted_since(
    office: Office, publisher: Publisher
) -> None:
    await office.erase()
    position = await position_at_end(office.api)
    for _ in range(3):
        await publisher.publish([record(UserRegistered(user=new_user(7)))], abort=True)
    await office.register("copy")
    await office.acknowledge("copy", position)
    async with office.console.signed_in("operations:read") as browser:
        after_aborted = await page(browser)
        await publisher.publish([record(UserRegistered(user=new_user(7)))])
        after_another = await page(browser)

    assert rows(after_aborted)["copy"][:2] == ["up to date", "0"]
    assert rows(after_another)["copy"][0] == "behind"


async def test_the_receipt_of_an_erased_id_says_who_has_read_it_and_is_signed(office: Office) -> None:
    await office.register("mailer")
    erased = await office.erase()
    async with office.console.signed_in("operations:read") as browser:
        receipt = await browser.get(f"/subscribers/receipt?id=%20{erased.upper()}%20")
        unknown = await browser.get(f"/subscribers/receipt?id={NOBODY}")
        wrong = await browser.get("/subscribers/receipt?id=%27%3E%3Cscript%3E")
    told = (await office.api.get(f"/erasures/{erased}")).json()

    assert receipt.status_code == 200
    assert "Not read by <bdi>mailer</bdi>" in receipt.text
    assert erased in receipt.text
    signed = re.search(r"<pre>([^<]+)</pre>", receipt.text)
    assert signed is not None
    assert signed[1].split(".")[1] == told["jws"].split(".")[1], "the same is signed"
    assert unknown.status_code == 404
    assert (wrong.status_code, "<script>" in wrong.text) == (400, False)


async def test_removing_one_is_confirmed_recorded_and_for_whoever_may(office: Office) -> None:
    await office.register("mailer")
    async with office.console.signed_in("operations:read") as reader:
        shown = await page(reader)
        refused = await reader.send("/subscribers/mailer/remove")
    async with office.console.signed_in("operations:read", "operations:write", subject="olga") as browser:
        offered = await page(browser)
        gone = await browser.send("/subscribers/mailer/remove")
        again = await browser.send("/subscribers/mailer/remove")
        strange = await browser.send("/subscribers/%2e%2e/remove")
        record = (await browser.get("/operations")).text

    assert "Remove" not in shown
    assert refused.status_code == 403
    assert "<summary>Remove <bdi>mailer</bdi></summary>" in offered
    assert "Receipts do not name it any more" in gone.text
    assert "Nobody has registered" in gone.text
    assert again.status_code == 404
    assert strange.status_code == 404
    assert record.count(">remove a subscriber</td>") == 2
    assert record.count("olga") >= 2


async def test_where_kafka_does_not_answer_positions_are_not_known_and_erasures_are(
    office: Office, command_database: PostgresAddress, query_database: PostgresAddress, events_url: str
) -> None:
    await office.register("mailer")
    await office.acknowledge("mailer", await position_at_end(office.api))
    settings = make_settings(command_database, query_database, CONSOLE_EVENTS_URL=events_url)
    async with serving(settings, query_database) as console, console.signed_in("operations:read") as browser:
        text = await page(browser)

    assert "How far behind they are is not known: Kafka does not answer" in text
    assert rows(text)["mailer"][:2] == ["not known", "–"]
    assert "Everybody has read of every erasure" in text


async def test_where_the_event_api_is_away_the_page_says_so(console: Console) -> None:
    async with console.signed_in("operations:read") as browser:
        answer = await browser.get("/subscribers")

    assert answer.status_code == 503
    assert "The event API does not answer" in answer.text
