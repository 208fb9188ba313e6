"""The API dies between COMMIT and the answer: a retry with the same key gets the answer, and nothing runs twice."""

import asyncio

import httpx
import pytest

from chassis.settings import PostgresAddress
from tests.integration.command_api.conftest import Connection, registration
from tests.integration.command_api.lossy_proxy import LossyProxy
from tests.integration.command_api.processes import api_process
from tests.waiting import until


async def test_a_retry_after_kill_9_between_commit_and_answer_is_replayed(
    command_database: PostgresAddress, database: Connection
) -> None:
    headers = {"Idempotency-Key": "the-one"}
    async with LossyProxy(command_database).listening() as proxy, httpx.AsyncClient(trust_env=False) as client:
        async with api_process(proxy.address, OUTBOX_NOTIFY="false") as api:
            warm = await client.post(f"{api.url}/users", json=registration("bob"), headers={"Idempotency-Key": "warm"})
            assert warm.status_code == 201
            # The look for a stored answer is 1, the commit 2; its reply never comes, nor can the API ask again.
            proxy.lose_reply(2)
            proxy.refusing = True
            first = asyncio.create_task(client.post(f"{api.url}/users", json=registration("ann"), headers=headers))
            await until(lambda: _registered(database), within=10, what="the registration is committed")
            await api.kill()
            with pytest.raises(httpx.TransportError):
                await first

        async with api_process(command_database, OUTBOX_NOTIFY="false") as api:
            answers = [
                await client.post(f"{api.url}/users", json=registration("ann"), headers=headers) for _ in range(3)
            ]

    assert [answer.status_code for answer in answers] == [201] * 3
    assert {answer.headers["idempotent-replayed"] for answer in answers} == {"true"}
    assert await database.fetchval("SELECT count(*) FROM outbox") == 2
    assert str(await database.fetchval("SELECT id FROM users WHERE username = 'ann'")) == answers[0].json()["id"]


async def _registered(database: Connection) -> bool:
    return bool(await database.fetchval("SELECT EXISTS (SELECT FROM users WHERE username = 'ann')"))
