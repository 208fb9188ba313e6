"""Projections in the console: rebuilt beside what serves, looked at, switched, rolled back, retired, and recorded."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from events.user_events import UserRegistered
from tests.integration.console.conftest import Browser, Console, make_settings, serving
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.integration.query_api.read_side import ReadSide
from tests.waiting import until

PAGE = "/projections"


@pytest.fixture
async def builder(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> AsyncIterator[Console]:
    """A console with a broker, on whose topic one user is."""
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish([record(UserRegistered(user=new_user(1)))])
    given = {**kafka.model_dump(), **topics.model_dump()}
    variables = {name.upper(): value for name, value in given.items() if value is not None}
    settings = make_settings(command_database, query_database, **variables, PROJECTORS_GROUP=topics.events_topic)
    async with serving(settings, query_database) as console:
        yield console


async def over(browser: Browser) -> str:
    """The page once no rebuild goes on."""
    text = ""

    async def ended() -> bool:
        nonlocal text
        text = (await browser.get(PAGE)).text
        return 'hx-trigger="every 2s"' not in text

    await until(ended, within=60, what="the rebuild to end")
    return text


async def test_a_rebuild_goes_on_by_itself_waits_at_a_difference_and_is_switched_and_undone_by_a_person(
    builder: Console, read_side: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projectors.operations.rebuild.HANDOVER_SECONDS", 0.0)
    monkeypatch.setattr("projectors.operations.rebuild_comparison.CONFIRM_SECONDS", 0.0)
    async with builder.signed_in(subject="eve") as browser:
        unfed = (await browser.get(PAGE)).text
        begun = await browser.send(f"{PAGE}/users/rebuild", page=PAGE)
        built = await over(browser)
        refused = await browser.send(f"{PAGE}/users/rollback", page=PAGE)
        await browser.send(f"{PAGE}/users/switch", page=PAGE, accept_difference="yes")
        switched = await over(browser)
        serves = await read_side.connection.fetchval("SELECT id FROM users_g2")
        used = await browser.send(f"{PAGE}/users/retire", page=PAGE, generation="2")
        recorded = [
            tuple(row)
            for row in await read_side.connection.fetch(
                "SELECT actor, deed, targets, outcome FROM console_operations ORDER BY id"
            )
        ]

    # Nobody feeds what serves, which is shown until somebody does.
    assert 'hx-select="#users-generations" hx-trigger="every 5s"' in unfed
    assert "The rebuild has begun" in begun.text
    assert "1 unknown to the command side" in built
    assert "I have seen the difference" in built
    assert refused.status_code == 409
    assert "nothing to go back to" in refused.text
    assert "The new generation serves" in switched
    assert "Roll back to generation 1" in switched
    assert isinstance(serves, UUID)
    assert used.status_code == 409
    assert recorded == [
        ("eve", "rebuild", ["users"], "refused: It differs (409)"),
        ("eve", "roll back", ["users"], "refused: That cannot be done now (409)"),
        ("eve", "rebuild and switch, difference accepted", ["users"], "done"),
        ("eve", "retire", ["users 2"], "refused: That cannot be done now (409)"),
    ]


async def test_generations_are_listed_without_kafka_and_nothing_is_offered_that_the_token_does_not_allow(
    console: Console,
) -> None:
    async with console.signed_in() as browser, console.signed_in("operations:read") as reader:
        everything = (await browser.get(PAGE)).text
        begun = await browser.send(f"{PAGE}/users/rebuild", page=PAGE)
        failed = await over(browser)
        read = (await reader.get(PAGE)).text
        refused = await reader.send(f"{PAGE}/users/rebuild", page=PAGE)
        unknown = await browser.send(f"{PAGE}/nothing/rebuild", page=PAGE)

    assert "How far they are is not known" in everything
    assert everything.count("serves</span>") == 3
    assert "hx-trigger" not in everything
    assert begun.status_code == 200
    assert "It did not go on" in failed
    assert "<details><summary>Rebuild" in everything
    assert "<details><summary>Rebuild" not in read
    assert (refused.status_code, unknown.status_code) == (403, 404)


async def test_a_query_database_that_is_slow_is_not_taken_for_kafka(builder: Console, read_side: ReadSide) -> None:
    async with builder.signed_in() as browser:
        well = (await browser.get("/projections")).text
        async with read_side.connection.transaction():
            await read_side.connection.execute("LOCK TABLE checkpoints")
            slow = (await browser.get("/projections")).text

    assert "How far they are is not known" not in well
    assert "How far they are is not known: the query database does not answer" in slow
    assert "Kafka" not in slow
