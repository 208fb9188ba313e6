"""docs/how-to/move-users-here.md as it is written: exports in their real shape become users with their passwords."""

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from chassis.identifiers import time_in
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from command_api.app import create_app as create_command_api
from command_api.users.rows import public_user
from query_api.app import create_app as create_query_api
from tests.integration.command_api.conftest import make_settings as command_settings
from tests.integration.muster_processes import muster
from tests.integration.query_api.conftest import make_settings as query_settings
from tests.integration.query_api.read_side import ReadSide
from tests.issuing import bearer, token
from tests.unit.chassis.transport.serving import listening
from tests.unit.command_api.passwords.foreign_hashes import PASSWORD
from tests.unit.docs.pages import ROOT

EXPORTS = Path(__file__).parent / "exports"
PAGE = (ROOT / "docs" / "how-to" / "move-users-here.md").read_text(encoding="utf-8")
#: What the console showed of the project.
FIREBASE = (
    "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
    "Bw==",
    "8",
    "14",
)
#: The scripts, with what each is given, on its command line and on standard input.
SCRIPTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "keycloak.py": ((), "keycloak.json"),
    "auth0.py": ((str(EXPORTS / "auth0-users.json"), str(EXPORTS / "auth0-hashes.json")), None),
    "firebase.py": (FIREBASE, "firebase.json"),
    "django_users.py": ((), "django.json"),
    "cognito.py": ((), "cognito.json"),
}
DAY = 1_551_675_967_089


def blocks(language: str) -> list[str]:
    """The page's code in a language, without the indentation of its step."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


async def execute(*command: str, given: bytes = b"", folder: Path, variables: dict[str, str] | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=variables, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(given), 60)
    assert process.returncode == 0
    return out


async def convert(folder: Path) -> list[str]:
    """Run each script of the page on its export, and give all lines."""
    lines: list[str] = []
    for code in blocks("python"):
        name = code.partition(":")[0].removeprefix("# ")
        arguments, export = SCRIPTS[name]
        given = (EXPORTS / export).read_bytes() if export else b""
        lines += (
            (await execute(sys.executable, "-c", code, *arguments, given=given, folder=folder)).decode().splitlines()
        )
    return lines


@dataclass(frozen=True)
class Apis:
    """Both APIs, and what a shell beside them needs."""

    command: httpx.AsyncClient
    read_side: ReadSide
    variables: dict[str, str]

    async def log_in(self, identifier: str, password: str) -> int:
        answer = await self.command.post("/credentials/verify", json={"identifier": identifier, "password": password})
        return answer.status_code


@pytest.fixture
async def apis(command_database: PostgresAddress, query_database: PostgresAddress) -> AsyncIterator[Apis]:
    apps = create_command_api(command_settings(command_database)), create_query_api(query_settings(query_database))
    async with AsyncExitStack() as stack:
        urls = []
        for app in apps:
            await stack.enter_async_context(app.router.lifespan_context(app))
            urls.append("http://{}:{}".format(*(await stack.enter_async_context(listening(app))).address))
        connection = await connect(query_database, application="test")
        stack.push_async_callback(disconnect, connection)
        client = httpx.AsyncClient(base_url=urls[0], headers=bearer())
        variables = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PUBLIC_COMMAND_URL": urls[0],
            "PUBLIC_QUERY_URL": urls[1],
            "MUSTER_TOKEN": token(),
        }
        yield Apis(await stack.enter_async_context(client), ReadSide(connection), variables)


async def test_whoever_comes_from_elsewhere_is_here_with_their_past_and_password(
    apis: Apis, command_database: PostgresAddress, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text("\n".join(await convert(tmp_path)) + "\n")
    dry_run, real = (shlex.split(code) for code in blocks("sh")[:2])
    reports = []
    for command in (dry_run, real):
        arguments = [str(file) if word == file.name else word for word in command[1:]]
        reports.append(await muster(apis.variables, *arguments, "--json"))
    connection = await connect(command_database, application="test")
    try:
        rows = await connection.fetch("SELECT * FROM users")
    finally:
        await disconnect(connection)

    assert (dry_run[-1], [code for code, _, _ in reports]) == ("--dry-run", [0, 0]), reports
    users = {row["username"]: row for row in rows}
    assert set(users) == {
        *("kim", "11111111-aaaa-4aaa-8aaa-000000000002", "kaj"),
        *("abe", "108234567890123456789", "euclid"),
        *("fYh2vXk9ZpQm4LsT7wRb1NcDe8A3", "gHj3wYl0AqRn5MtU8xSc2OdEf9B4"),
        *("dan", "django-2", "sue", "may", "django-5"),
        *("cat", "22222222-bbbb-4bbb-8bbb-000000000002"),
    }
    for name in ("kim", "abe", "euclid", "fYh2vXk9ZpQm4LsT7wRb1NcDe8A3", "dan", "cat"):
        user = users[name]
        assert (time_in(user["id"]), user["status"]) == (DAY, "active"), name
        # Django does not know.
        assert user["email_verified"] == (name != "dan"), name
    deactivated = {user["email"] for user in rows if user["status"] == "deactivated"}
    without = {user["email"] for user in rows if user["password_hash"] is None}
    assert deactivated == {f"{name}@example.com" for name in ("kit", "ada", "fox", "dot", "cob")}
    names = ("kaj", "ada", "fox", "dot", "sue", "may", "own", "cat", "cob")
    assert without == {f"{name}@example.com" for name in names}
    assert json.loads(users["kim"]["attributes"]) == {"keycloak_id": "11111111-aaaa-4aaa-8aaa-000000000001"}
    assert users["kim"]["display_name"] == "Kim Larsen"
    found = {user["email"]: await apis.log_in(user["email"], PASSWORD) for user in rows}
    assert found == {email: 403 if email in deactivated | without else 200 for email in found}

    await apis.read_side.register(*map(public_user, rows))
    await execute("bash", "-ec", blocks("sh")[2], folder=tmp_path, variables=apis.variables)
    tokens = [json.loads(line) for line in (tmp_path / "tokens.ndjson").read_text().splitlines()]
    assert {issued["email"] for issued in tokens} == without - deactivated
    assert (tmp_path / "left.txt").read_text() == ""
    for issued in tokens:
        chosen = {"token": issued["token"], "password": "one that they chose themselves"}
        assert (await apis.command.post("/one-time-tokens/redeem", json=chosen)).status_code == 200
        assert await apis.log_in(issued["username"], chosen["password"]) == 200


async def test_a_hash_goes_to_the_account_of_its_id_and_to_no_other_with_its_address(tmp_path: Path) -> None:
    """Auth0 has an account for each way to log in, with one address."""
    twin = {"user_id": "google-oauth2|2", "email": "abe@example.com", "created_at": "2020-01-02T03:04:05.000Z"}
    users = (EXPORTS / "auth0-users.json").read_text() + json.dumps(twin) + "\n"
    (tmp_path / "users.json").write_text(users)
    [code] = [code for code in blocks("python") if code.startswith("# auth0.py")]

    out = await execute(sys.executable, "-c", code, "users.json", str(EXPORTS / "auth0-hashes.json"), folder=tmp_path)

    hashed = {line["attributes"]["auth0_id"]: bool(line["password_hash"]) for line in map(json.loads, out.splitlines())}
    assert hashed == {
        "auth0|5c7cb0ff7d5a4e0c6a000001": True,
        "google-oauth2|108234567890123456789": False,
        "auth0|euclid": True,
        "google-oauth2|2": False,
    }
