"""`muster users` against both APIs: whom it finds and how, what it asks, and what it says of a refusal."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from chassis.identifiers import new_id
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from command_api.app import create_app as create_command_api
from events.user_events import PublicUser
from query_api.app import create_app as create_query_api
from tests.forks import Fork
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.command_api.conftest import registration
from tests.integration.muster_processes import RUN_SECONDS, Ended, main, muster
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.integration.query_api.read_side import ReadSide
from tests.issuing import SCOPES, bearer, token
from tests.unit.chassis.transport.serving import listening

OPERATOR = (*SCOPES, "credentials:issue")


class Apis:
    """Both APIs, and a user whom they know."""

    def __init__(self, command: str, query: str, user: PublicUser, read_side: ReadSide) -> None:
        self.command = command
        self.read_side = read_side
        self.user = user
        self.variables = {
            **os.environ,
            "PUBLIC_COMMAND_URL": command,
            "PUBLIC_QUERY_URL": query,
            "MUSTER_TOKEN": token(scopes=OPERATOR),
        }

    async def run(self, *arguments: str, given: str = "", **variables: str) -> Ended:
        return await muster(self.variables | variables, "users", *arguments, given=given.encode())

    async def is_active(self) -> bool:
        """Whether the command side has her active: only then another name is taken as it is."""
        async with httpx.AsyncClient(base_url=self.command, headers=bearer()) as client:
            answer = await client.put(f"/users/{self.user.id}/username", json={"username": self.user.username})
        return answer.status_code == 200 and answer.json()["is_active"]


@pytest.fixture
async def apis(
    command_database: PostgresAddress, query_database: PostgresAddress, request: pytest.FixtureRequest
) -> AsyncIterator[Apis]:
    """Both; a parameter has more settings of the command API."""
    async with AsyncExitStack() as stack:
        urls = []
        for app in (
            create_command_api(command_settings(command_database, **getattr(request, "param", {}))),
            create_query_api(query_settings(query_database)),
        ):
            await stack.enter_async_context(app.router.lifespan_context(app))
            listener = await stack.enter_async_context(listening(app))
            urls.append("http://{}:{}".format(*listener.address))
        async with httpx.AsyncClient(base_url=urls[0], headers=bearer()) as client:
            answer = await client.post("/users", json=registration("ann", display_name="Ann\x1b[2J"))
        user = PublicUser.model_validate(answer.json())
        connection = await connect(query_database, application="test")
        stack.push_async_callback(disconnect, connection)
        read_side = ReadSide(connection)
        await read_side.register(user)
        yield Apis(urls[0], urls[1], user, read_side)


async def test_a_user_is_shown_by_id_address_and_name(apis: Apis) -> None:
    user_id = str(apis.user.id)

    shown = [await apis.run("show", who, "--json") for who in (user_id, user_id.upper(), "ANN@example.com", "Ann")]
    plain = await apis.run("show", "ann")

    assert [json.loads(out) for _, out, _ in shown] == [apis.user.model_dump(mode="json")] * 4
    assert plain.out.startswith(f"id: {user_id}\nemail: ann@example.com\n")
    assert "display_name: Ann\\x1b[2J\n" in plain.out, "a terminal would obey it"


async def test_a_name_that_looks_like_an_id_is_found_as_a_name(apis: Apis) -> None:
    name = str(uuid4())
    async with httpx.AsyncClient(base_url=apis.command, headers=bearer()) as client:
        moved = PublicUser.model_validate((await client.post("/users", json=registration(name))).json())
    await apis.read_side.register(moved)

    shown = await apis.run("show", name, "--json")

    assert json.loads(shown.out) == moved.model_dump(mode="json"), shown.err


async def test_who_is_not_there_is_named(apis: Apis) -> None:
    nobody = str(new_id())

    ended = [await apis.run("show", who) for who in ("bob", "bob@example.com", nobody)]

    assert [code for code, _, _ in ended] == [1, 1, 1]
    assert [err for _, _, err in ended] == [
        "No user has the username bob.\n",
        "No user has the email bob@example.com.\n",
        f"No user has the id or username {nobody}.\n",
    ]


async def test_a_user_is_deactivated_with_a_reason_and_stays_so(apis: Apis) -> None:
    first = await apis.run("deactivate", "ann", "--yes", "--reason", "left")
    again = await apis.run("deactivate", "ann", "--yes")

    said = f"ann <ann@example.com> ({apis.user.id}) is deactivated.\n"
    assert (first, again) == (Ended(0, said, ""), Ended(0, said, ""))
    assert not await apis.is_active()


async def test_where_nobody_can_be_asked_nobody_is_deactivated(apis: Apis) -> None:
    code, out, err = await apis.run("deactivate", "ann")

    assert (code, out, err) == (2, "", "Nothing was changed: say --yes where nobody can be asked.\n")
    assert await apis.is_active()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
async def test_a_terminal_is_asked_first(apis: Apis, tmp_path: Path, answer: str, code: int) -> None:
    ours, theirs = os.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        process = await Fork.start(
            main,
            *("users", "deactivate", "ann"),
            environment=apis.variables,
            given=Path(os.ttyname(theirs)),
            out=tmp_path / "out",
            err=tmp_path / "err",
        )
        ended = await asyncio.wait_for(process.wait(), RUN_SECONDS)
    finally:
        os.close(ours)
        os.close(theirs)

    assert ended == code, (tmp_path / "err").read_text()
    assert f"Deactivate ann <ann@example.com> ({apis.user.id})?" in (tmp_path / "out").read_text()
    assert await apis.is_active() is (answer == "n")


async def test_a_missing_scope_an_outage_and_no_address_are_told_in_a_sentence(apis: Apis) -> None:
    refused = await apis.run("show", "ann", MUSTER_TOKEN=token(scopes=["users:write"]))
    down = await apis.run("show", "ann", PUBLIC_QUERY_URL="http://127.0.0.1:1")
    nowhere = await muster({"PATH": os.defpath, "MUSTER_FOLDER": "/nowhere"}, "users", "show", "ann")

    assert (refused.code, refused.err.startswith("The query API answers 403: "), "MUSTER_TOKEN" in refused.err) == (
        1,
        True,
        True,
    )
    assert (down.code, down.err.startswith("http://127.0.0.1:1/ does not answer: ")) == (1, True)
    assert (nowhere.code, "PUBLIC_QUERY_URL" in nowhere.err) == (2, True)
    assert all("Traceback" not in ended.err for ended in (refused, down, nowhere))


async def test_a_reset_prints_the_token_and_until_when_it_is_good(apis: Apis) -> None:
    plain = await apis.run("reset", "ann", "--ttl", "2h")
    code, out, err = await apis.run("reset", str(apis.user.id), "--json")
    issued = json.loads(out)
    [token_] = plain.out.splitlines()

    assert (plain.code, code) == (0, 0), err
    assert plain.err.startswith(f"It sets a new password for ann <ann@example.com> ({apis.user.id}), once, until 2")
    assert issued.keys() == {"user_id", "email", "username", "token", "purpose", "expires_at"}
    assert (issued["user_id"], issued["purpose"]) == (str(apis.user.id), "password-reset")
    assert issued["token"] != token_
    async with httpx.AsyncClient(base_url=apis.command, headers=bearer(scopes=["credentials:redeem"])) as client:
        older, newer = [
            await client.post("/one-time-tokens/redeem", json={"token": each, "password": "a long one that is new"})
            for each in (token_, issued["token"])
        ]
    assert (older.status_code, newer.status_code) == (400, 200)


async def test_many_are_reset_a_line_of_json_each_and_who_is_refused_is_told(apis: Apis) -> None:
    code, out, err = await apis.run("reset", "-", "--ttl", "7d", given="ann@example.com\nbob\n\nANN\n")

    assert [json.loads(line)["username"] for line in out.splitlines()] == ["ann", "ann"]
    assert (code, err) == (1, "bob: No user has the username bob.\n")


async def test_who_has_no_token_in_the_end_is_in_a_file_that_can_be_given_again(apis: Apis, tmp_path: Path) -> None:
    left = tmp_path / "left.txt"
    first = await apis.run("reset", "-", "--rejects", str(left), given="bob\nann@example.com\neve@example.com\n")
    names = left.read_text()
    down = await apis.run(
        "reset", "-", "--rejects", str(left), given="bob\nann\n", PUBLIC_COMMAND_URL="http://127.0.0.1:1"
    )
    stopped = left.read_text()
    async with httpx.AsyncClient(base_url=apis.command, headers=bearer()) as client:
        bob = PublicUser.model_validate((await client.post("/users", json=registration("bob"))).json())
    await apis.read_side.register(bob)
    again = await apis.run("reset", "-", "--rejects", str(left), given=stopped)

    assert (first.code, names) == (1, "bob\neve@example.com\n")
    assert (down.code, down.err.startswith("bob: No user has"), "It ended before ann." in down.err) == (1, True, True)
    assert stopped == "bob\nann\n"
    assert [json.loads(line)["username"] for line in again.out.splitlines()] == ["bob", "ann"]
    assert (again.code, left.read_text()) == (0, "")
    one = await apis.run("reset", "ann", "--rejects", str(left))
    assert (one.code, one.err) == (2, "--rejects goes with - alone: one user is refused on standard error.\n")


@pytest.mark.parametrize("apis", [{"RATE_LIMIT_COMMANDS": "1/s"}], indirect=True)
async def test_whoever_is_told_to_come_again_is_not_left_out(apis: Apis) -> None:
    code, out, err = await apis.run("reset", "-", given="ann\n" * 4)

    assert (code, len(out.splitlines()), err) == (0, 4, "")


async def test_a_reset_that_would_last_too_long_is_refused(apis: Apis) -> None:
    code, out, err = await apis.run("reset", "ann", "--ttl", "8d")

    assert (code, out) == (1, "")
    assert err.startswith("The command API answers 422: ")
    assert "604800" in err
