"""`muster up`: the whole of Muster on this machine, or some of its parts, in the foreground or in the background.

Here are the options; foreground.py runs a stack, background.py starts, stops and shows one in the background.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.stack.discovery import FolderOption, stack_folder
from cli.stack.foreground import UpOptions, run_stack
from cli.stack.local_stack import muster
from cli.stack.settings import ALL_PARTS, HTTP_PORTS, LAST_PORT_BASE, PARTS, PORT_BASE, Ports, needed_servers
from cli.terminal.output import fail
from local_stack.servers import BROKERS, ServerOptions


def _port(part: str, what: str, **more: Any) -> object:
    return typer.Option(min=1, max=65535, help=f"Port of {what}.", envvar=f"MUSTER_{part}_PORT", **more)


def _http_port(part: str, what: str) -> object:
    return _port(part, what, show_default=f"the base + {HTTP_PORTS[part.lower()]}")


def up(  # noqa: PLR0913, PLR0917 - each is an option of the command
    folder: FolderOption = None,
    postgres_port: Annotated[int, _port("POSTGRES", "PostgreSQL")] = 5433,
    kafka_port: Annotated[int, _port("KAFKA", "Kafka")] = 9092,
    port_base: Annotated[
        int,
        typer.Option(min=1, max=LAST_PORT_BASE, help="Where the HTTP ports begin.", envvar="MUSTER_PORT_BASE"),
    ] = PORT_BASE,
    command_port: Annotated[int | None, _http_port("COMMAND", "the command API")] = None,
    query_port: Annotated[int | None, _http_port("QUERY", "the query API")] = None,
    relay_port: Annotated[int | None, _http_port("RELAY", "the relay's health and metrics")] = None,
    projectors_port: Annotated[int | None, _http_port("PROJECTORS", "the projectors' health and metrics")] = None,
    console_port: Annotated[int | None, _http_port("CONSOLE", "the console")] = None,
    events_port: Annotated[int | None, _http_port("EVENTS", "the event API")] = None,
    console_ops_port: Annotated[int | None, _http_port("CONSOLE_OPS", "the console's health and metrics")] = None,
    command_ops_port: Annotated[int | None, _http_port("COMMAND_OPS", "the command API's health and metrics")] = None,
    query_ops_port: Annotated[int | None, _http_port("QUERY_OPS", "the query API's health and metrics")] = None,
    events_ops_port: Annotated[int | None, _http_port("EVENTS_OPS", "the event API's health and metrics")] = None,
    only: Annotated[
        str, typer.Option(metavar="PART,…", help=f"Run only some of: {', '.join(PARTS)}.", show_default=False)
    ] = "",
    brokers: Annotated[
        int | None, typer.Option(help="How many brokers, 1 or 3.", show_default="as before, else 1")
    ] = None,
    standby: Annotated[
        bool | None, typer.Option("--standby/--no-standby", help="A hot standby of PostgreSQL.", show_default=False)
    ] = None,
    synchronous: Annotated[
        bool | None,
        typer.Option("--synchronous/--no-synchronous", help="Commits wait for the standby.", show_default=False),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; it runs on.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the stack that runs on the folder, in order.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what runs; exit 1 if not all of it is ready.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: report as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log as it grows.")] = False,
) -> None:
    """Start PostgreSQL, Kafka and every process of Muster on this machine; Ctrl-C stops them."""
    if detach + stop + status > 1:
        fail("Use one of --detach, --stop and --status at a time.", code=2)
    if as_json and not status:
        fail("--json goes with --status: only that reports.", code=2)
    if brokers is not None and brokers not in BROKERS:
        fail("--brokers takes 1 or 3: two have no majority when one is away.", code=2)
    where = stack_folder(folder)
    if stop or status or detach:
        from cli.stack import background  # noqa: PLC0415 - the foreground starts sooner without

        if stop:
            raise typer.Exit(background.stop(where))
        if status:
            raise typer.Exit(background.show_status(where, as_json=as_json))
    main = (command_port, query_port, relay_port, projectors_port, console_port, events_port)
    chosen = (*main, console_ops_port, command_ops_port, query_ops_port, events_ops_port)
    http_ports = [port or port_base + step for port, step in zip(chosen, HTTP_PORTS.values(), strict=True)]
    ports = Ports(postgres_port, kafka_port, *http_ports)
    servers = ServerOptions(brokers, standby, synchronous)
    options = UpOptions(where, ports, _parts(only), verbose=verbose, servers=servers)
    if detach:
        raise typer.Exit(background.detach(options, muster()))
    raise typer.Exit(run_stack(options, muster()))


def _parts(only: str) -> frozenset[str]:
    """Return the parts that were asked for; all of them where none was named."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL_PARTS]
    if unknown:
        fail(f"There is no part {' and no part '.join(unknown)}: name some of {', '.join(PARTS)}.", code=2)
    parts = frozenset(names) or ALL_PARTS
    for part in PARTS:
        missing = needed_servers(part) - parts if part in parts else frozenset[str]()
        if missing:
            fail(f"{part} needs {' and '.join(sorted(missing))}: name it in --only too.", code=2)
    return parts
