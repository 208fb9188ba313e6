"""A crowd of checks whose hashes others made as dear as may be, against a process of the command API."""

import asyncio
import json

import httpx

from chassis.settings import PostgresAddress
from tests.integration.command_api.conftest import registration
from tests.integration.command_api.processes import STOP_SECONDS, api_process
from tests.waiting import until

#: All that wait take longer than a process that was told to stop begins new ones, and a busy machine still does one of
#: them within a second or two.
DEAR = "$pbkdf2-sha256$i=600000$c2FsdHNhbHQ$ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGlnZXN0"
#: That one thread works on and keeps waiting, and a crowd of more.
PLACES, CROWD = 34, 50


async def test_a_crowd_of_dear_checks_stops_neither_registrations_nor_the_end_of_the_process(
    command_database: PostgresAddress,
) -> None:
    people = [
        {"email": f"dear{number}@example.com", "username": f"dear{number}", "password_hash": DEAR}
        for number in range(CROWD)
    ]
    body = "\n".join(map(json.dumps, people)).encode()
    async with (
        api_process(command_database, HASHING_THREADS="1") as api,
        httpx.AsyncClient(base_url=api.url, timeout=60) as http,
    ):
        imported = await http.post("/users/import", content=body, headers={"Content-Type": "application/x-ndjson"})
        assert json.loads(imported.text.splitlines()[-1])["created"] == len(people)

        async def verify(number: int) -> int:
            guess = {"identifier": f"dear{number}", "password": "correct horse"}
            return (await http.post("/credentials/verify", json=guess)).status_code

        checks = [asyncio.create_task(verify(number)) for number in range(CROWD)]

        async def is_full() -> bool:
            return any(check.done() and check.result() == 503 for check in checks)

        await until(is_full, within=60, what="all places of checks are taken")
        registered = [(await http.post("/users", json=registration(f"new{n}"))).status_code for n in range(5)]
        waiting = sum(not check.done() for check in checks)
        refused = sum(check.done() and check.result() == 503 for check in checks)
        api.process.terminate()
        await asyncio.wait_for(api.process.wait(), STOP_SECONDS)
        answers = await asyncio.gather(*checks)

    assert registered == [201] * 5
    assert waiting > PLACES / 2, "registrations do not wait until the checks are done"
    # Of those that waited some were dropped, each with an answer: how many, the machine's speed decides.
    assert answers.count(503) > refused
    assert set(answers) <= {403, 503}
