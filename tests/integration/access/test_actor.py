"""Who made a change travels with its event: through every kind of command, and into the log."""

import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest

from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from command_api.app import create_app
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, make_settings, register, registration, serving
from tests.issuing import bearer

Actors = list[tuple[str | None, str | None]]


@pytest.fixture
async def api(command_database: PostgresAddress) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(create_app(make_settings(command_database))) as client:
        yield client


async def actors(database: Connection, user_id: str) -> Actors:
    """Actor, and on behalf of whom, of each of a user's events."""
    rows = await database.fetch("SELECT headers FROM outbox WHERE subject_id = $1 ORDER BY id", user_id)
    return [(one.actor, one.on_behalf_of) for one in (envelope_of(row["headers"]) for row in rows)]


async def test_every_event_says_who_made_it_the_tombstone_too(
    api: httpx.AsyncClient, database: Connection, logs: list[MutableMapping[str, Any]], ann: dict[str, Any]
) -> None:
    user_id, path = ann["id"], f"/users/{ann['id']}"
    own = bearer(user_id.upper(), ["self"])
    helped = bearer(user_id.upper(), ["users:write"], act={"sub": "support/Åsa 7", "act": {"sub": "inner"}})
    mailed = bearer("ann@example.com", ["users:erase"])

    for answer in (
        await api.patch(f"{path}/profile", json={"display_name": "Ann"}, headers=own),
        await api.put(f"{path}/username", json={"username": "ann2"}, headers=helped),
        await api.delete(path, headers=mailed),
    ):
        assert answer.is_success, answer.text

    found = await actors(database, user_id)
    assert found == [
        ("operator", None),
        ("self", None),
        ("support%2F%C3%85sa%207", user_id.upper()),
        # The SHA-256 of the address.
        ("sha256:71d4f55f72fa128dfb468a1a3901507c", None),
    ]
    committed = [line for line in logs if line["event"] == "command.committed"]
    assert [(line["actor"], line["on_behalf_of"]) for line in committed] == found


async def test_a_replay_does_not_change_who_it_was(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    path, key = f"/users/{ann['id']}/profile", {"Idempotency-Key": "k"}
    helped = bearer("shop", act={"sub": "clerk"})

    await api.patch(path, json={"display_name": "Ann"}, headers={**bearer("shop"), **key})
    again = await api.patch(path, json={"display_name": "Ann"}, headers={**helped, **key})

    assert again.headers["idempotent-replayed"] == "true"
    assert (await actors(database, ann["id"]))[1:] == [("shop", None)]


async def test_an_import_says_who_sent_it_and_self_where_that_is_the_user(
    api: httpx.AsyncClient, database: Connection, logs: list[MutableMapping[str, Any]]
) -> None:
    own, other = str(new_id()), str(new_id())
    lines = [registration(name, id=user_id) for name, user_id in (("ann", own), ("bob", other))]
    headers = {**bearer(own), "content-type": "application/x-ndjson"}

    answer = await api.post("/users/import", content="\n".join(map(json.dumps, lines)), headers=headers)

    assert '"created":2' in answer.text
    assert await actors(database, own) == [("self", None)]
    assert await actors(database, other) == [(own, None)]
    [line] = [line for line in logs if line["event"] == "import.complete"]
    assert (line["actor"], line["on_behalf_of"]) == (own, None)


async def test_without_access_nobody_is_named(command_database: PostgresAddress, database: Connection) -> None:
    nobody = dict.fromkeys(("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_FILE"))
    settings = make_settings(command_database, **nobody, AUTH_DISABLED=True)

    async with serving(create_app(settings)) as api:
        api.base_url = httpx.URL("http://127.0.0.1")
        ann = await register(api, "ann")

    assert await actors(database, ann["id"]) == [(None, None)]
