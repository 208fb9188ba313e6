"""What our words advise works: each command is taken from the words that print it, and carried out as it stands there.

One installation goes through all of it, and both sides agree after each. What is not here is walked where it belongs:
the pages about disasters beside this, restored backups in projectors/operations/test_restored_backup.py, parked records
and going back in test_commands.py there, rights in tests/integration/access/test_kafka.py.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer

from chassis.kafka.client import client_arguments
from chassis.settings import PostgresAddress
from cli.doctor.feeds import examine_feeds
from cli.doctor.findings import Finding
from cli.doctor.outbox import examine_outbox
from events.user_events import UserProfileChanged
from projectors.settings import ProjectorSettings
from tests.forks import NOWHERE, Fork
from tests.integration.command_api.conftest import register, registration
from tests.integration.disasters.installation import Installation, installed
from tests.integration.muster_processes import Ended, main, muster
from tests.integration.projectors.stream import new_user, record
from tests.waiting import until

_AS_ANOTHER = """
WITH taken AS (DELETE FROM outbox RETURNING event_id, subject_id, value, headers)
INSERT INTO outbox (id, event_id, subject_id, value, headers) OVERRIDING SYSTEM VALUE SELECT $1, * FROM taken
"""


def advised(words: str, user: str = "") -> list[list[str]]:
    """The arguments of each `muster` in these words."""
    return [re.sub(r"\bID…?", user, command).split() for command in re.findall(r"`muster ([^`]+)`", words)]


async def test_what_is_printed_about_rows_users_generations_and_backups_mends_them(
    settings: ProjectorSettings,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    variables: dict[str, str],
    api: httpx.AsyncClient,
) -> None:
    ann, bob, carol = [await register(api, name) for name in ("ann", "bob", "carol")]
    assert (await api.patch(f"/users/{ann['id']}/profile", json={"display_name": "Ann"})).status_code == 200
    assert (await api.delete(f"/users/{bob['id']}")).status_code == 204
    await change(command_database, "UPDATE outbox SET value = NULL WHERE id = (SELECT min(id) FROM outbox)")
    await change(command_database, "UPDATE outbox SET headers = '' WHERE subject_id = $1 AND value IS NULL", bob["id"])
    async with installed(variables, settings.events_topic) as muster_here:
        await muster_here.start("relay", "project")
        await damaged_rows_are_dropped(muster_here, command_database)
        await muster_here.until_all_are("fed")
        await muster_here.run(["audit"])

        await forge(settings, ann["id"])
        await what_is_parked_is_removed(muster_here, settings, ann["id"])
        await muster_here.run(["audit"])

        await change(command_database, "DELETE FROM users WHERE id = $1", carol["id"])
        await a_difference_is_accepted(muster_here, carol["id"])
        await a_build_that_is_refused_is_dropped(muster_here, query_database)
        await whom_only_the_read_side_has_is_given_up(muster_here, carol["id"])
        await muster_here.run(["audit"])
        assert await imported(api, registration("carol", id=carol["id"])) == "/problems/user-erased"

        await another_name_publishes_after_a_backup(muster_here, command_database, api)
        await muster_here.until_all_are("fed")
        await muster_here.run(["audit"])


async def test_what_is_printed_about_feeds_and_people_who_are_missing_mends_them(
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    variables: dict[str, str],
    api: httpx.AsyncClient,
    tmp_path: Path,
) -> None:
    ann = await register(api, "ann")
    async with installed(variables, variables["EVENTS_TOPIC"]) as muster_here:
        await muster_here.start("relay")
        await muster_here.until_published()
        await nobody_feeds_before_projectors_run(muster_here)
        await a_refill_that_is_stopped_goes_on(muster_here, command_database, tmp_path / "refill.err")
        await muster_here.until_all_are("fed")
        await muster_here.run(["audit"])

        await change(query_database, "DELETE FROM users_g1 WHERE id = $1", ann["id"])
        await who_is_behind_is_built_anew(muster_here)
        await muster_here.run(["audit"])

        await muster_here.stop("relay")
        bob = await register(api, "bob")
        await change(command_database, "DELETE FROM outbox")
        await muster_here.start("relay")
        await whom_the_topic_lacks_is_published(muster_here, bob["id"])
        await muster_here.until_all_are("fed")
        await muster_here.run(["audit"])


async def nobody_feeds_before_projectors_run(muster_here: Installation) -> None:
    reasons = {one["reason"] for one in await lag(muster_here)}
    [start] = advised(reasons.pop())
    assert reasons == set(), "the same for all"
    await muster_here.start(*start)
    await muster_here.until_all_are("fed")


async def a_refill_that_is_stopped_goes_on(muster_here: Installation, address: PostgresAddress, said: Path) -> None:
    await muster_here.stop("relay")
    refill = await Fork.start(main, "events", "refill", environment=muster_here.variables, out=NOWHERE, err=said)

    async def has_begun() -> bool:
        return bool(await change(address, "SELECT EXISTS (SELECT FROM outbox)"))

    await until(has_begun, within=30, what="the refill to wait for a relay")
    refill.terminate()
    assert await asyncio.wait_for(refill.wait(), 30) == 1
    [again] = advised(await asyncio.to_thread(said.read_text))
    await muster_here.start("relay")
    await muster_here.run(again)


async def who_is_behind_is_built_anew(muster_here: Installation) -> None:
    told = await muster(muster_here.variables, "audit")
    assert (told.code, "1 behind" in told.out) == (1, True)
    *looks, rebuild = advised(told.out)
    assert (looks, rebuild) == ([["lag"], ["parked", "list"]], ["rebuild", "users"])
    for command in (*looks, rebuild):
        await muster_here.run(command)


async def whom_the_topic_lacks_is_published(muster_here: Installation, user_id: str) -> None:
    refused = await muster(muster_here.variables, "rebuild", "timeline", "--pause-before-switch")
    assert (refused.code, f"1 missing, such as {user_id}" in refused.err) == (1, True)
    refill, _, again, _ = advised(refused.err, user_id)
    assert (refill, again) == (["events", "refill"], ["rebuild", "timeline"])
    await muster_here.run(refill)
    await muster_here.run([*again, "--pause-before-switch"])


async def damaged_rows_are_dropped(muster_here: Installation, address: PostgresAddress) -> None:
    """Ann's registration and Bob's erasure, which hold up everything else."""

    async def found(result: str) -> list[Finding]:
        return [one for one in await examine_outbox(address) if one.result == result]

    async def named() -> bool:
        return bool(await found("failed"))

    for _ in range(2):
        await until(named, within=30, what="a damaged row to be named")
        [finding] = await found("failed")
        for command in advised(finding.remedy):
            await muster_here.run(command)
        # The warning that follows offers to put it back as well, which mends nothing that is damaged. The next damaged
        # row may be named already.
        [waiting] = await found("warning")
        back, drop = advised(waiting.remedy)
        assert back[:2] == ["outbox", "put-back"]
        await muster_here.run(drop)
    await muster_here.until_published()


async def forge(settings: ProjectorSettings, user_id: str) -> None:
    """Somebody else writes about the user."""
    one = record(UserProfileChanged(user=new_user(1).model_copy(update={"version": 9}), previous={}))
    headers = [(name, b"evil" if name == "ce_source" else value) for name, value in one.headers]
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        await producer.send_and_wait(settings.events_topic, one.value, key=user_id.encode(), headers=headers)
    finally:
        await producer.stop()


async def what_is_parked_is_removed(muster_here: Installation, settings: ProjectorSettings, user_id: str) -> None:
    async def findings() -> list[Finding]:
        return [one for one in await examine_feeds(settings) if one.check.startswith("suspicious records")]

    async def parked() -> bool:
        return len(await findings()) == 3

    await until(parked, within=30, what="each projection to park the record")
    for command in advised((await findings())[0].remedy, user_id):
        await muster_here.run(command)
    assert await findings() == []


async def a_difference_is_accepted(muster_here: Installation, unknown: str) -> None:
    refused = await muster(muster_here.variables, "rebuild", "users", "--pause-before-switch")
    assert refused.code == 1
    assert f"1 unknown to the command side, such as {unknown}" in refused.err
    [accept] = [command for command in advised(refused.err) if "--accept-difference" in command]
    accepted = await muster_here.run([*accept, "--pause-before-switch"])
    assert f"1 unknown to the command side, such as {unknown}" in accepted.out


async def a_build_that_is_refused_is_dropped(muster_here: Installation, address: PostgresAddress) -> None:
    await change(address, "UPDATE generations SET refusal = 'a test says so' WHERE status = 'building'")
    reason = next(one["reason"] for one in await lag(muster_here) if one["status"] == "building")
    # The one before it builds another in its place: projectors/consumer/test_continuity.py.
    [_, drop] = advised(reason)
    await muster_here.run(drop)
    assert all(one["status"] == "serving" for one in await lag(muster_here))


async def whom_only_the_read_side_has_is_given_up(muster_here: Installation, user_id: str) -> None:
    told = await muster(muster_here.variables, "audit")
    assert (told.code, "1 ahead" in told.out) == (1, True)
    ahead, _ = advised(told.out)
    left = await muster(muster_here.variables, *ahead)
    assert (left.code, user_id in left.out) == (1, True)
    [give_up] = advised(left.out, user_id)
    await muster_here.run(give_up)
    await muster_here.until_published()


async def another_name_publishes_after_a_backup(
    muster_here: Installation, address: PostgresAddress, api: httpx.AsyncClient
) -> None:
    """The outbox holds another event where the relay's record names the last one that it published."""
    await register(api, "published")
    await muster_here.until_published()
    published = await change(address, "SELECT last_value FROM outbox_id_seq")
    await muster_here.stop("relay")
    await register(api, "late")
    await change(address, _AS_ANOTHER, published)
    ended = await muster(muster_here.variables, "relay")
    assert ended.code == 1
    assert "start with a new RELAY_NAME" in ended.out + ended.err
    muster_here.variables["RELAY_NAME"] = "another"
    await muster_here.start("relay")
    await muster_here.until_published()


async def imported(api: httpx.AsyncClient, line: dict[str, Any]) -> str:
    """The problem's type that an import answers to a line."""
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.post("/users/import", content=json.dumps(line), headers=headers)
    assert answer.status_code == 200, answer.text
    result = json.loads(answer.text.splitlines()[0])
    return str(result["problem"]["type"])


async def lag(muster_here: Installation) -> list[dict[str, Any]]:
    ended: Ended = await muster_here.run(["lag", "--json"])
    found: list[dict[str, Any]] = json.loads(ended.out)["projections"]
    return found


async def change(address: PostgresAddress, statement: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()
