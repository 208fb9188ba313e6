"""docs/how-to/move-users-here.md as it is written: exports in their real shape become users with their passwords."""

import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path

from chassis.identifiers import time_in
from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from command_api.passwords.formats import verify
from tests.integration.command_api.processes import api_process
from tests.integration.muster_processes import muster
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


async def execute(*command: str, given: bytes = b"", folder: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
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


async def test_whoever_comes_from_elsewhere_is_here_with_their_past_and_password(
    command_database: PostgresAddress, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text("\n".join(await convert(tmp_path)) + "\n")
    dry_run, real = (shlex.split(code) for code in blocks("sh")[:2])
    reports = []
    async with api_process(command_database, OUTBOX_NOTIFY="false") as api:
        for command in (dry_run, real):
            arguments = [str(file) if word == file.name else word for word in command[1:]]
            reports.append(await muster(dict(os.environ), *arguments, "--url", api.url, "--json"))
    connection = await connect(command_database, application="test")
    try:
        rows = await connection.fetch("SELECT * FROM users")
    finally:
        await disconnect(connection)

    assert (dry_run[-1], [code for code, _, _ in reports]) == ("--dry-run", [0, 0]), reports
    users = {row["username"]: row for row in rows}
    assert set(users) == {
        *("kim", "11111111-aaaa-4aaa-8aaa-000000000002", "kaj"),
        *("abe", "108234567890123456789"),
        *("fYh2vXk9ZpQm4LsT7wRb1NcDe8A3", "gHj3wYl0AqRn5MtU8xSc2OdEf9B4"),
        *("dan", "django-2"),
        *("cat", "22222222-bbbb-4bbb-8bbb-000000000002"),
    }
    for name in ("kim", "abe", "fYh2vXk9ZpQm4LsT7wRb1NcDe8A3", "dan", "cat"):
        user = users[name]
        assert (time_in(user["id"]), user["status"]) == (DAY, "active"), name
        # Django does not know.
        assert user["email_verified"] == (name != "dan"), name
    deactivated = {user["email"].partition("@")[0] for user in rows if user["status"] == "deactivated"}
    without = {user["email"].partition("@")[0] for user in rows if user["password_hash"] is None}
    assert deactivated == {"kit", "ada", "fox", "dot", "cob"}
    assert without == {"kaj", "ada", "fox", "dot", "cat", "cob"}
    for user in rows:
        assert user["password_hash"] is None or verify(PASSWORD, user["password_hash"]), user["email"]
    assert json.loads(users["kim"]["attributes"]) == {"keycloak_id": "11111111-aaaa-4aaa-8aaa-000000000001"}
    assert users["kim"]["display_name"] == "Kim Larsen"

    await execute("bash", "-c", blocks("sh")[2].partition("\nmuster ")[0], folder=tmp_path)
    named = (tmp_path / "without-password.txt").read_text().split()
    assert {name.partition("@")[0] for name in named} == without - deactivated
