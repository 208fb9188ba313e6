"""`muster import` against a real command API: ids of its own, rejects, resuming, outages."""

import asyncio
import json
import os
import signal
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import RFC_4122

import pytest
from argon2 import PasswordHasher

from chassis.postgres.database import connect, disconnect
from chassis.settings import PostgresAddress
from cli.importing.chunks import CHUNK_LINES, LONGEST_LINE_BYTES, line_id, with_id
from tests.integration.command_api.conftest import Connection
from tests.integration.command_api.processes import ApiProcess, api_process
from tests.integration.muster_processes import Ended, muster
from tests.waiting import until

HASH = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1).hash("correct horse")
RUN_SECONDS = 60


@pytest.fixture
async def api(command_database: PostgresAddress) -> AsyncIterator[ApiProcess]:
    async with api_process(command_database, OUTBOX_NOTIFY="false") as served:
        yield served


@pytest.fixture
async def database(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """What is really there, seen from outside the API."""
    connection = await connect(command_database, application="test")
    try:
        yield connection
    finally:
        await disconnect(connection)


def line(name: str, **more: Any) -> str:
    return json.dumps({"email": f"{name}@example.com", "username": name, "password_hash": HASH, **more})


async def run(*arguments: str, given: bytes = b"") -> Ended:
    return await muster({**os.environ, "COLUMNS": "120"}, "import", *arguments, given=given)


async def test_a_file_is_imported_and_importing_it_again_changes_nothing(
    api: ApiProcess, database: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    count = CHUNK_LINES + 10
    file.write_text("\n".join(line(f"user{number}") for number in range(count)))

    first, out, _ = await run(str(file), "--url", api.url)
    again, report, _ = await run(str(file), "--url", api.url, "--json")

    assert (first, again) == (0, 0), out
    assert "2,010 created" in out
    assert json.loads(report) == {
        "complete": True,
        "lines": count,
        "created": 0,
        "unchanged": count,
        "failed": 0,
        "refused": {},
        "rejects": None,
    }
    assert await database.fetchval("SELECT count(*) FROM outbox") == count
    assert _names(tmp_path) == {"users.ndjson", "users.ndjson.import.json"}


async def test_refused_lines_are_kept_for_their_owner_and_fail_the_command(
    api: ApiProcess, database: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    lines = [
        line("ann"),
        "{broken",
        line("ann", email="other@example.com"),
        "x" * (LONGEST_LINE_BYTES * 3),
        line("bob"),
    ]
    file.write_text("\n".join(lines) + "\n")

    code, out, _ = await run(str(file), "--url", api.url)

    rejects, reasons = tmp_path / "users.ndjson.rejects.ndjson", tmp_path / "users.ndjson.rejects.ndjson.reasons"
    why = [json.loads(item) for item in reasons.read_text().splitlines()]
    assert code == 1
    assert "2 created" in out
    assert "3 refused" in out
    assert "\n        1  username-taken (line 3): " in out
    assert out.splitlines()[2].startswith("        1  malformed-request (line 2): ")
    assert [item["line"] for item in why] == [2, 3, 4]
    assert [item["problem"]["type"].rpartition("/")[2] for item in why] == [
        "malformed-request",
        "username-taken",
        "payload-too-large",
    ]
    assert rejects.read_text().splitlines() == lines[1:4]
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    assert await database.fetchval("SELECT count(*) FROM users") == 2


async def test_a_reason_that_quotes_what_only_some_call_a_line_end_is_read_whole(
    api: ApiProcess, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text(line("ann", **{"a\u2028b\u0085c": 1}))

    code, out, err = await run(str(file), "--url", api.url, "--json")

    assert (code, json.loads(out)["failed"]) == (1, 1), err
    reasons = (tmp_path / "users.ndjson.rejects.ndjson.reasons").read_bytes()
    assert "a\u2028b\u0085c" in json.loads(reasons)["problem"]["detail"]


async def test_an_import_goes_on_where_it_stopped(api: ApiProcess, database: Connection, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text("\n".join(line(f"user{number}") for number in range(CHUNK_LINES * 2)))
    await run(str(file), "--url", api.url)
    notes = tmp_path / "users.ndjson.import.json"
    first = file.read_bytes().split(b"\n")[:CHUNK_LINES]
    offset = sum(len(item) + 1 for item in first)
    noted = {**json.loads(notes.read_text()), "offset": offset, "line": CHUNK_LINES, "created": CHUNK_LINES}
    notes.write_text(json.dumps(noted))

    code, report, _ = await run(str(file), "--url", api.url, "--resume", "--json")

    assert code == 0
    assert json.loads(report)["created"] == CHUNK_LINES
    assert json.loads(report)["unchanged"] == CHUNK_LINES, "only the second half was sent again"
    assert await database.fetchval("SELECT count(*) FROM users") == CHUNK_LINES * 2


async def test_what_was_refused_before_a_resumption_is_reported_too(api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text("\n".join([line("x"), *(line(f"user{n}") for n in range(CHUNK_LINES)), line("y")]))
    await run(str(file), "--url", api.url)
    notes, offset = tmp_path / "users.ndjson.import.json", file.read_bytes().rfind(b"\n") + 1
    noted = json.loads(notes.read_text())
    assert noted["refused"]["validation-error #/username"]["lines"] == [1, CHUNK_LINES + 2]
    noted["refused"]["validation-error #/username"] |= {"lines": [1], "count": 1}
    notes.write_text(json.dumps({**noted, "offset": offset, "line": CHUNK_LINES + 1, "failed": 1}))

    _, report, _ = await run(str(file), "--url", api.url, "--resume", "--json")

    [(kind, told)] = json.loads(report)["refused"].items()
    assert (kind, told["count"], told["lines"]) == ("validation-error #/username", 2, [1, CHUNK_LINES + 2])
    assert told["detail"] == "must have 3 to 50 characters; this has 1"


async def test_a_dry_run_foresees_what_the_import_does_and_leaves_nothing_behind(
    api: ApiProcess, database: Connection, tmp_path: Path
) -> None:
    """Also where a line meets one of an earlier chunk, or one of its own chunk that is not registered for that."""
    file = tmp_path / "users.ndjson"
    brought = "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"
    lines = [
        line("ann"),
        line("bob", id=brought),
        *(line(f"user{number}") for number in range(CHUNK_LINES)),
        line("null", id=None),
        line("ANN", username="other"),
        line("eve", username="Bob"),
        line("eve"),
        line("eve", username="eva"),
        line("ann", username="eve"),
        line("sam", id=brought.upper()),
        "{broken",
        "",
    ]
    file.write_text("\n".join(lines))

    code, told, err = await run(str(file), "--url", api.url, "--dry-run", "--json")
    _, out, _ = await run(str(file), "--url", api.url, "--dry-run")
    left = _names(tmp_path), await database.fetchval("SELECT count(*) FROM users")
    _, report, _ = await run(str(file), "--url", api.url, "--json")

    foreseen, happened = json.loads(told), json.loads(report)
    assert (code, foreseen.pop("dry_run")) == (1, True), err
    assert foreseen == {**happened, "rejects": None}
    assert (happened["created"], happened["unchanged"], happened["failed"]) == (CHUNK_LINES + 4, 1, 5)
    assert left == ({"users.ndjson"}, 0)
    assert out.endswith("It was a dry run: nothing was changed.\n")


async def test_a_dry_run_keeps_rejects_where_it_is_told_to(api: ApiProcess, tmp_path: Path) -> None:
    file, rejects = tmp_path / "users.ndjson", tmp_path / "wrong"
    file.write_text(line("x"))

    assert (await run(str(file), "--url", api.url, "--dry-run", "--rejects", str(rejects)))[0] == 1
    assert rejects.read_text() == line("x") + "\n"
    assert (await run(str(file), "--url", api.url, "--dry-run", "--resume"))[0] == 2


async def test_a_user_who_brings_a_time_has_it_in_the_id_each_time(
    api: ApiProcess, database: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text(line("ann", created_at="2019-03-04T05:06:07.089Z"))

    first, _, _ = await run(str(file), "--url", api.url)
    _, again, _ = await run(str(file), "--url", api.url)

    [user] = await database.fetch("SELECT id FROM users")
    assert (first, again) == (0, "1 line: 0 created, 1 there already, 0 refused.\n")
    assert user["id"].int >> 80 == 1_551_675_967_089


async def test_a_line_whose_id_is_null_is_imported_once(api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text(line("ann", id=None))

    reports = [(await run(str(file), "--url", api.url)).out for _ in range(2)]

    assert reports == [
        "1 line: 1 created, 0 there already, 0 refused.\n",
        "1 line: 0 created, 1 there already, 0 refused.\n",
    ]


async def test_a_file_that_has_changed_is_not_resumed(api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text(line("ann"))
    await run(str(file), "--url", api.url)
    file.write_text(line("ann") + "\n" + line("bob"))

    code, _, err = await run(str(file), "--url", api.url, "--resume")

    assert code == 2
    assert "has changed" in err


async def test_standard_input_is_taken(api: ApiProcess, database: Connection, tmp_path: Path) -> None:
    code, out, err = await run("-", "--url", api.url, "--rejects", str(tmp_path / "r"), given=line("ann").encode())

    assert (code, await database.fetchval("SELECT count(*) FROM users")) == (0, 1), out + err
    assert (await run("-", "--resume"))[0] == 2


async def test_an_outage_in_the_middle_costs_only_time(command_database: PostgresAddress, tmp_path: Path) -> None:
    """The API dies while a chunk is under way and comes back on the same port."""
    file = tmp_path / "users.ndjson"
    count = CHUNK_LINES * 3
    file.write_text("\n".join(line(f"user{number}") for number in range(count)))
    notes = tmp_path / "users.ndjson.import.json"
    async with api_process(command_database, OUTBOX_NOTIFY="false") as first:
        importing = asyncio.create_task(run(str(file), "--url", first.url, "--json"))
        await until(lambda: _exists(notes), within=RUN_SECONDS, what="the first chunk is noted")
        await first.kill()
    async with api_process(command_database, first.port, OUTBOX_NOTIFY="false"):
        code, report, err = await importing

    told = json.loads(report)
    assert code == 0, err
    assert (told["lines"], told["created"] + told["unchanged"], told["failed"]) == (count, count, 0)


async def _exists(path: Path) -> bool:
    return path.name in _names(path.parent)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_id_depends_on_the_line_and_sorts_by_its_number() -> None:
    ids = [line_id(b"{}", number, 1_764_000_000_000) for number in (1, 2, 3_000_000_000, 2**41)]

    assert {(item.version, item.variant) for item in ids} == {(7, RFC_4122)}
    assert ids == sorted(ids)
    assert line_id(b"{ }", 1, 1_764_000_000_000) != ids[0]
    assert line_id(b"{}", 1, 1_764_000_000_000) == ids[0]


async def test_an_import_that_is_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_text(line("ann") + "\n")
    asked, left = asyncio.Event(), asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "import", str(file), "--url", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await asyncio.wait_for(asked.wait(), RUN_SECONDS)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
        await asyncio.wait_for(left.wait(), RUN_SECONDS)

    assert process.returncode == 1
    assert out.decode().endswith("Go on with --resume.\n")
    assert "Interrupted." in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize("where", ["nowhere/rejects", "."])
async def test_rejects_that_cannot_be_written_are_told_before_anything_is_sent(tmp_path: Path, where: str) -> None:
    file = tmp_path / "users.ndjson"
    file.write_bytes(b"{}\n")

    code, _, err = await run(str(file), "--url", "http://127.0.0.1:1", "--rejects", str(tmp_path / where))

    assert (code, err.startswith("Cannot write"), "Traceback" in err) == (2, True, False), err


async def test_a_file_may_begin_with_a_byte_order_mark(api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "users.ndjson"
    file.write_bytes(BOM_UTF8 + f"{line('ann')}\n{line('bob')}\n".encode())

    code, out, err = await run(str(file), "--url", api.url)
    again = await run(str(file), "--url", api.url)

    assert (code, out) == (0, "2 lines: 2 created, 0 there already, 0 refused.\n"), err
    assert again[1] == "2 lines: 0 created, 2 there already, 0 refused.\n"


@pytest.mark.parametrize(
    "line_",
    [
        b'{"id":null}',
        b' { "a" : null, "id" : null }',
        b'{"a": {"id": null}, "b": "\\"id\\": null", "\\u0069d": null, "c": [null]}',
    ],
)
def test_an_id_takes_the_place_of_its_null_and_of_nothing_else(line_: bytes) -> None:
    identifier = str(line_id(line_, 1, 0))

    given = json.loads(with_id(line_, 1, 0), object_pairs_hook=list)

    assert given == [
        (name, identifier if name == "id" else value) for name, value in json.loads(line_, object_pairs_hook=list)
    ]


def test_only_an_object_without_an_id_is_given_one() -> None:
    assert json.loads(with_id(b' {"a": 1}', 1, 0)) == {"id": str(line_id(b' {"a": 1}', 1, 0)), "a": 1}
    with_ids = (b'{"id": "x"}', b'{"id": null, "id": null}')
    for line_ in (*with_ids, b"[1]", b"{", b"", b"{}", BOM_UTF8 + b'{"a": 1}', b"[" * LONGEST_LINE_BYTES):
        assert with_id(line_, 1, 0) == line_
