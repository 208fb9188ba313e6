import os
from pathlib import Path

import asyncpg
import psutil
import pytest

from local_stack.errors import LocalStackError
from local_stack.postgres.data import CLAIM
from local_stack.postgres.server import PostgresServer, end_orphan
from tests.waiting import until


async def _fetch(server: PostgresServer, statement: str, within: float = 10) -> object:
    connection = await asyncpg.connect(server.address.dsn("tried"), timeout=within)
    try:
        return await connection.fetchval(statement, timeout=within)
    finally:
        connection.terminate()


async def test_keeps_its_data_through_kill_and_restart(folder: Path) -> None:
    async with PostgresServer(folder / "server", durable=False) as server:
        assert await server.create_database("tried")
        await _fetch(server, "CREATE TABLE kept AS SELECT 42 AS answer")

        await server.kill()
        await server.start()
        after_kill = await _fetch(server, "SELECT answer FROM kept")
        await server.restart()
        after_restart = await _fetch(server, "SELECT answer FROM kept")

        assert (after_kill, after_restart) == (42, 42)
        assert not await server.create_database("tried")


async def test_answers_nothing_while_it_is_paused(folder: Path) -> None:
    async with PostgresServer(folder / "server", durable=False) as server:
        await server.create_database("tried")

        server.pause()
        with pytest.raises((TimeoutError, OSError)):
            await _fetch(server, "SELECT 1", within=0.5)
        server.resume()

        assert await _fetch(server, "SELECT 1") == 1


async def test_is_durable_unless_told_otherwise_and_asks_for_a_password(folder: Path) -> None:
    async with PostgresServer(folder / "server") as server:
        await server.create_database("tried")

        settings = {
            name: await _fetch(server, f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")
        }
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.address.dsn("tried").replace(server.address.password, "guess"))

    assert set(settings.values()) == {"on"}


async def test_its_log_tells_of_a_violated_constraint_but_not_of_the_value(folder: Path) -> None:
    async with PostgresServer(folder / "server", durable=False) as server:
        await server.create_database("tried")
        await _fetch(server, "CREATE TABLE people (email text CONSTRAINT only_once UNIQUE)")
        await _fetch(server, "INSERT INTO people VALUES ('ada@example.com')")
        connection = await asyncpg.connect(server.address.dsn("tried"))
        with pytest.raises(asyncpg.UniqueViolationError) as refusal:
            await connection.execute("INSERT INTO people VALUES ($1)", "ada@example.com")
        await connection.close()

        async def logged() -> str:
            text = server.log.read_text()
            return text if "only_once" in text else ""

        log: str = await until(logged, within=10, what="the violation in the log")

    assert "ada@example.com" in str(refusal.value.detail), "what a more talkative log would show"
    assert "ada@example.com" not in log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
async def test_runs_as_an_unprivileged_user_even_below_a_folder_that_user_cannot_enter(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)

    async with PostgresServer(private / "server", durable=False) as server:
        assert server.pid is not None
        data = server.data_folder.resolve()
        uid = psutil.Process(server.pid).uids().effective

    assert uid != 0
    assert not data.exists(), "what was moved out of a temporary folder goes with it"


@pytest.mark.parametrize("place", ["folder", "link"])
async def test_what_stands_where_its_data_should_be_is_refused_and_left_alone(folder: Path, place: str) -> None:
    data = folder / "server" / "data"
    mine = data if place == "folder" else folder / "mine"
    mine.mkdir(parents=True)
    (mine / "photo.jpg").touch()
    if place == "link":
        data.parent.mkdir()
        data.symlink_to(mine)

    with pytest.raises(LocalStackError, match="nothing of it was touched"):
        await PostgresServer(folder / "server", durable=False).start()

    assert [path.name for path in mine.iterdir()] == ["photo.jpg"]
    assert [path.name for path in data.parent.iterdir()] == ["data"]


async def test_an_initialisation_that_was_killed_is_cleared_and_done_again(folder: Path) -> None:
    half_made = folder / "server" / "initdb-0"
    mine = folder / "server" / "initdb-mine"
    for made in (half_made / "data", mine):
        made.mkdir(parents=True)
        (made / "PG_VERSION").write_text("18")
    (half_made / CLAIM).touch()

    async with PostgresServer(folder / "server", durable=False):
        pass

    assert not half_made.exists()
    assert (mine / "PG_VERSION").exists()
    assert {path.name for path in (folder / "server").iterdir()} <= {"data", "password", "postgres.log", mine.name}


async def test_ends_an_orphan_that_still_works_on_its_data(folder: Path) -> None:
    orphan = PostgresServer(folder / "server", durable=False)
    await orphan.start()
    assert orphan.pid is not None
    process = psutil.Process(orphan.pid)

    async with PostgresServer(folder / "server", durable=False) as server:
        assert server.pid != orphan.pid
        await until(lambda: _gone(process), within=5, what="the orphan's end")
    await orphan.wait()


def test_a_pid_file_whose_number_now_belongs_to_another_process_is_removed(folder: Path) -> None:
    pid_file = folder / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{folder}\n")

    end_orphan(folder)

    assert not pid_file.exists()


async def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
