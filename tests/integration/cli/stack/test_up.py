"""`muster up` from outside: a process of its own, real servers, stand-ins for Muster's own processes."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from chassis.kafka.client import admin
from chassis.settings import Kafka
from cli.stack.contents import CLUSTERS
from local_stack.folder import orphans
from local_stack.ports import LOCALHOST, free_ports
from local_stack.stack_file import FILE_NAME, Stack, read
from tests.servers.port_rows import in_a_row
from tests.waiting import until

PROGRAM = Path(__file__).with_name("up_with_stand_in.py")
ROOT = Path(__file__).parents[4]
READY_SECONDS = 60
END_SECONDS = 120  # the first orderly end on a machine also keeps Kafka's start-up cache


class Up:
    """One `muster up` on a folder and its ports."""

    def __init__(self, folder: Path, ports: list[int], process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.ports = ports
        self.process = process

    async def ready(self) -> Stack:
        assert self.process.stdout is not None
        said = []
        async with asyncio.timeout(READY_SECONDS):
            async for line in self.process.stdout:
                said.append(line.decode())
                if "Ctrl-C stops everything" in said[-1]:
                    break
        stack = read(self.folder)
        assert stack is not None, "".join(said)
        return stack

    async def end(self) -> tuple[int, str]:
        """Return exit code and the rest of what it said, once it has ended."""
        async with asyncio.timeout(END_SECONDS):
            said, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()

    def running(self) -> list[psutil.Process]:
        """Return what is left: marked processes, and PostgreSQL, which paints over its environment."""
        data = {str((self.folder / name / "data").resolve()) for name in CLUSTERS}
        servers = [process for process in psutil.process_iter() if _runs_on(process, data)]
        return orphans(self.folder) + servers


@asynccontextmanager
async def started(
    folder: Path, ports: list[int] | None = None, extra: Mapping[str, str] | None = None
) -> AsyncIterator[Up]:
    wanted = ports or free_ports(12)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(folder),
        *map(str, wanted),
        env={**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    up = Up(folder, wanted, process)
    try:
        yield up
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        await until(lambda: _nothing_runs(up), within=END_SECONDS, what="the end of everything")


async def test_writes_down_what_runs_and_leaves_nothing_after_ctrl_c(folder: Path) -> None:
    async with started(folder) as up:
        stack = await up.ready()
        mode = stat.S_IMODE((folder / FILE_NAME).stat().st_mode)
        names = [entry.name for entry in stack.processes]
        alive = [psutil.pid_exists(entry.pid) for entry in stack.processes]

        up.process.send_signal(signal.SIGINT)
        code, said = await up.end()

        assert names == ["postgres", "kafka", "command-api", "query-api", "relay", "projectors", "event-api", "console"]
        assert all(alive)
        assert mode == 0o600
        assert code == 0
        assert said.index("relay") < said.index("projectors") < said.index("kafka") < said.index("postgres")
        assert "ended in order" in (folder / "logs" / "relay.log").read_text()
        assert up.running() == []
        assert read(folder) is None


async def test_a_child_that_is_killed_comes_back(folder: Path) -> None:
    async with started(folder) as up:
        first = {entry.name: entry.pid for entry in (await up.ready()).processes}

        for name in ("relay", "postgres"):
            os.kill(first[name], signal.SIGKILL)
        await until(lambda: _restarted(folder, first, {"relay", "postgres"}), within=20, what="both children's return")

        up.process.send_signal(signal.SIGTERM)
        assert (await up.end())[0] == 0


async def test_three_brokers_and_a_standby_come_back_as_they_were(folder: Path) -> None:
    ports = [in_a_row(2), in_a_row(3), *free_ports(10)]
    wanted = {"brokers": 3, "standby": True, "synchronous": True}
    servers = {"postgres", "postgres-standby", "kafka", "kafka-2", "kafka-3"}
    async with started(folder, ports, {"SERVERS": json.dumps(wanted)}) as up:
        first = {entry.name: entry.pid for entry in (await up.ready()).processes}
        assert servers <= first.keys()

        for name in ("postgres-standby", "kafka-2"):
            os.kill(first[name], signal.SIGKILL)
        await until(
            lambda: _restarted(folder, first, {"postgres-standby", "kafka-2"}), within=60, what="both servers' return"
        )
        up.process.send_signal(signal.SIGTERM)
        assert (await up.end())[0] == 0
        assert up.running() == []

    async with started(folder, ports) as again:
        stack = await again.ready()
        assert servers <= {entry.name for entry in stack.processes}
        assert await _brokers(stack) == wanted["brokers"]
        assert await _standby(stack) == "sync"
        again.process.send_signal(signal.SIGTERM)
        assert (await again.end())[0] == 0

    async with started(folder, ports, {"SERVERS": '{"brokers": 1}'}) as other:
        code, said = await other.end()
    assert (code, "was made with 3 brokers" in " ".join(said.split())) == (1, True), said


async def _brokers(stack: Stack) -> int:
    async with admin(Kafka.model_validate(stack.settings)) as client:
        return len((await client.describe_cluster())["brokers"])


async def _standby(stack: Stack) -> object:
    """How the primary treats what follows it."""
    settings = stack.settings
    connection = await asyncpg.connect(
        host=LOCALHOST,
        port=int(settings["POSTGRES_PORT"]),
        user=settings["POSTGRES_USER"],
        password=settings["POSTGRES_PASSWORD"],
        database="postgres",
        ssl=False,
    )
    try:
        return await connection.fetchval("SELECT sync_state FROM pg_stat_replication")
    finally:
        await connection.close()


async def test_recovers_after_a_kill_of_everything(folder: Path) -> None:
    async with started(folder) as up:
        stack = await up.ready()
        up.process.kill()
        for entry in stack.processes:
            _kill(entry.pid)

    async with started(folder, up.ports) as again:
        assert (await again.ready()).supervisor_pid == again.process.pid
        again.process.send_signal(signal.SIGINT)
        assert (await again.end())[0] == 0


async def test_a_command_that_cannot_work_ends_the_start_with_its_last_words(folder: Path) -> None:
    async with started(folder, extra={"STAND_IN_FAILS": "migrate"}) as up:
        code, said = await up.end()

        assert code == 1
        assert "muster migrate all failed (exit code 1)" in said
        assert "migrate cannot work" in said
        assert up.running() == []


async def test_a_second_stack_on_the_folder_and_taken_ports_are_refused_before_anything_starts(folder: Path) -> None:
    async with started(folder) as up, AsyncExitStack() as more:
        await up.ready()
        same_folder = await more.enter_async_context(started(folder))
        code, said = await same_folder.end()
        assert (code, "A stack is already running" in said) == (1, True)

        other = folder / "other"
        same_ports = await more.enter_async_context(started(other, up.ports))
        code, said = await same_ports.end()
        assert code == 1
        assert f"Port {up.ports[0]} is taken by process" in said
        assert "--projectors-port" in said
        assert [path.name for path in other.iterdir()] == ["lock"]
        up.process.send_signal(signal.SIGINT)
        await up.end()


async def test_ctrl_c_while_it_starts_leaves_nothing(folder: Path) -> None:
    async with started(folder) as up:
        await until(lambda: _exists(folder / "logs" / "postgres.log"), within=20, what="PostgreSQL's start")

        up.process.send_signal(signal.SIGINT)
        code, _ = await up.end()

        assert code == 0
        assert up.running() == []


@pytest.mark.parametrize(
    "variable",
    ["POSTGRES_SERVER", "KAFKA_BOOTSTRAP_SERVERS", "QUERY_POSTGRES_PASSWORD", "COMMAND_POSTGRES_SSLMODE", "PGSSLMODE"],
)
async def test_settings_that_point_elsewhere_do_not_reach_the_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    from cli.stack.settings import Ports, process_environment, stack_settings  # noqa: PLC0415
    from local_stack.postgres.server import ServerAddress  # noqa: PLC0415

    monkeypatch.setenv(variable, "elsewhere")
    monkeypatch.setenv("WORKERS", "4")
    settings = stack_settings(folder, Ports(*range(12)), ServerAddress(LOCALHOST, 1, "muster", "secret"))

    environment = process_environment(folder, settings)

    assert environment.get(variable) != "elsewhere"
    assert environment["WORKERS"] == "4"
    assert settings == stack_settings(folder, Ports(*range(12)), ServerAddress(LOCALHOST, 1, "muster", "secret"))


def test_what_the_environment_names_in_files_goes_before_what_the_stack_would_choose(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.stack.settings import Ports, process_environment, stack_settings  # noqa: PLC0415
    from local_stack.postgres.server import ServerAddress  # noqa: PLC0415

    values = {
        "AUTH_ISSUER": "https://login.example.com",
        "AUTH_AUDIENCE": "users",
        "PUBLIC_QUERY_URL": "https://users.example.com",
        "IDEMPOTENCY_SECRET": "from a file, as an orchestrator hands secrets over",
    }
    monkeypatch.chdir(tmp_path)
    for name, value in values.items():
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{name}_FILE", name)
    monkeypatch.setenv("AUTH_JWKS_FILE", "keys.json")

    settings = stack_settings(folder, Ports(*range(12)), ServerAddress(LOCALHOST, 1, "muster", "secret"))
    told = process_environment(folder, settings)

    assert {name: told.get(name) for name in values} == values
    assert told["AUTH_JWKS_FILE"] == str(tmp_path / "keys.json")
    assert not [name for name in values if f"{name}_FILE" in told]


def test_each_process_of_a_stack_is_told_its_own_secrets_and_an_older_folder_is_given_the_missing_ones(
    folder: Path,
) -> None:
    from cli.stack.settings import SECRETS, SERVICES, Ports, settings_of, stack_settings  # noqa: PLC0415
    from local_stack.postgres.server import ServerAddress  # noqa: PLC0415

    folder.mkdir(exist_ok=True)
    (folder / "secrets.json").write_text('{"IDEMPOTENCY_SECRET": "kept", "CURSOR_KEYS": "k1:kept"}')
    settings = stack_settings(folder, Ports(*range(1, 13)), ServerAddress(LOCALHOST, 1, "muster", "secret"))
    told = {
        part: {name for name in settings_of(part, settings) if name in SECRETS or "_USER" in name or "PASSWORD" in name}
        for part in (*SERVICES, "migrate", "topics", "rebuild", "imports")
    }

    assert (settings["IDEMPOTENCY_SECRET"], settings["RELAY_POSTGRES_USER"]) == ("kept", "muster_relay")
    assert told == {
        "command-api": {
            "COMMAND_POSTGRES_USER",
            "COMMAND_POSTGRES_PASSWORD",
            "IDEMPOTENCY_SECRET",
            "CREDENTIALS_SECRETS",
        },
        "query-api": {"QUERY_POSTGRES_USER", "QUERY_POSTGRES_PASSWORD", "CURSOR_KEYS"},
        "event-api": {"EVENTS_POSTGRES_USER", "EVENTS_POSTGRES_PASSWORD", "EVENT_API_SECRETS", "RECEIPTS_KEY"},
        "console": {"OPERATOR_POSTGRES_USER", "OPERATOR_POSTGRES_PASSWORD", "CONSOLE_SECRET"},
        "relay": {"RELAY_POSTGRES_USER", "RELAY_POSTGRES_PASSWORD"},
        "projectors": {"PROJECTORS_POSTGRES_USER", "PROJECTORS_POSTGRES_PASSWORD"},
        "migrate": {"OWNER_POSTGRES_USER", "OWNER_POSTGRES_PASSWORD"},
        "topics": set(),
        "rebuild": {"OPERATOR_POSTGRES_USER", "OPERATOR_POSTGRES_PASSWORD"},
        "imports": set(),
    }


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _runs_on(process: psutil.Process, data: set[str]) -> bool:
    try:
        return process.name().startswith("postgres") and process.cwd() in data
    except psutil.Error:
        return False


async def _nothing_runs(up: Up) -> bool:
    return up.running() == []


async def _restarted(folder: Path, first: Mapping[str, int], names: set[str]) -> bool:
    stack = read(folder)
    return stack is not None and names <= {entry.name for entry in stack.processes if entry.pid != first[entry.name]}


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)
