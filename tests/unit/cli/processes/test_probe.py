"""The image's health check finds out which process it holds, and whether that one is ready."""

import asyncio
import socket

import pytest

from chassis.http.health import Health, NotReadyError
from chassis.http.listening import serve_health
from chassis.settings import Transport
from cli.processes.probe import PORTS, ask, main
from local_stack.ports import LOCALHOST, free_port
from tests.waiting import until


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default ports may be in use on this machine."""
    for variable in PORTS:
        monkeypatch.setenv(variable, str(free_port()))


async def _probe(health: Health, variable: str, monkeypatch: pytest.MonkeyPatch) -> int:
    port = free_port()
    monkeypatch.setenv(variable, str(port))
    async with serve_health(health, host=LOCALHOST, port=port, transport=Transport()):
        await until(lambda: asyncio.to_thread(ask, port), within=10, what="the health port")
        return await asyncio.to_thread(main, [])


@pytest.mark.parametrize("variable", PORTS)
async def test_a_ready_process_is_found_on_whichever_port_it_has(
    elsewhere: None, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fine() -> None:
        pass

    assert await _probe(Health(ready={"database": fine}), variable, monkeypatch) == 0
    assert '"database":"ok"' in capsys.readouterr().out


async def test_one_that_is_not_ready_is_unhealthy_and_its_reason_is_kept(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def waits() -> None:
        raise NotReadyError("no topic users.events")

    assert await _probe(Health(ready={"relay": waits}), "RELAY_HTTP_PORT", monkeypatch) == 1
    assert "no topic users.events" in capsys.readouterr().out


def test_nobody_there_is_unhealthy(elsewhere: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "nobody listens on" in capsys.readouterr().out


def test_what_listens_and_speaks_no_http_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(5)

        def hang_up() -> None:
            server.accept()[0].close()

        async def both() -> int:
            code, _ = await asyncio.gather(asyncio.to_thread(main, [str(port)]), asyncio.to_thread(hang_up))
            return code

        assert asyncio.run(both()) == 1
    assert f"port {port}" in capsys.readouterr().out
