"""`muster rebuild NAME|status|rollback|retire`: new generations of read tables, while the old ones serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chassis.lifecycle import freeze_loaded_objects, run_until_stopped, usable_cores
from chassis.postgres.database import Database, describe
from chassis.settings import OperatorCommandPostgres, load
from chassis.settings_error import SettingsError
from chassis.telemetry import configure_logging
from cli.operations.projections import known_projection
from cli.terminal.outages import DATABASE_OUTAGES, OUTAGES, explain_outage, with_database
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from cli.terminal.tables import print_table, table
from projectors.app import YOUNG_OBJECTS, open_database
from projectors.operations import rebuild as rebuilding
from projectors.operations.lag import GenerationLag, measure
from projectors.operations.rebuild import DifferenceError, Rebuild, RebuildError, Stage
from projectors.operations.rebuild_comparison import Comparison, Verdict
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import OperatorProjectorSettings
from read_model.generations import Generation, InUseError, NoGenerationError, NotCaughtUpError, OtherBuildError

T = TypeVar("T")

#: Where nobody says how many: each has two connections and a backend of PostgreSQL's beside it, and operators have ten
#: (cli/doctor/budget.py).
MOST_PROCESSES = 4

#: Between two lines that tell how far a rebuild is.
LINE_SECONDS = 5.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Build a projection's tables anew beside those that serve, and switch.",
)

ProjectionArgument = Annotated[str, typer.Argument(help="The projection.", metavar="NAME", callback=known_projection)]

#: Why there is no comparison with the command side.
_NOT_ASKED: tuple[type[Exception], ...] = (SettingsError, *DATABASE_OUTAGES)
_REFUSALS: tuple[type[Exception], ...] = (
    RebuildError,
    NoGenerationError,
    OtherBuildError,
    NotCaughtUpError,
    InUseError,
)


WithoutCarryOverOption = Annotated[
    bool, typer.Option("--without-carry-over", help="Give up what the topic no longer has, such as older entries.")
]
AcceptDifferenceOption = Annotated[
    bool,
    typer.Option("--accept-difference", help="Show how it differs, and switch all the same."),
]
PauseOption = Annotated[
    bool, typer.Option("--pause-before-switch", help="Stop when caught up; the next call switches.")
]


def _as_many_as_cores() -> int:
    return min(usable_cores(), MOST_PROCESSES)


ProcessesOption = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        default_factory=_as_many_as_cores,
        show_default="the cores, at most 4",
        help="At most so many replay a long topic together.",
    ),
]


def rebuild(  # noqa: PLR0913 - one for each option
    name: str,
    *,
    pause_before_switch: bool,
    without_carry_over: bool,
    as_json: bool,
    processes: int,
    accept_difference: bool = False,
    compare_always: bool = True,
    hand_over: bool = True,
) -> None:
    """Build a new generation and let queries read it; continues a build that was killed."""
    settings = load(OperatorProjectorSettings)
    configure_logging("rebuild", "WARNING" if settings.log_level == "INFO" else settings.log_level)
    # Handing over is a rebalance, and aiokafka warns of each.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    bar = _ProgressBar(visible=not as_json)

    async def main(stopping: asyncio.Event) -> int:
        async with open_database(settings.query_database, application="muster-rebuild") as database:
            work = Rebuild(settings, database, name, stopping, bar.show)
            bar.stage = await work.run(
                pause_before_switch=pause_before_switch,
                carry_over=not without_carry_over,
                compare=partial(_compare, database, bar),
                compare_always=compare_always,
                accept_difference=accept_difference,
                hand_over=hand_over,
                processes=processes,
            )
            bar.accepted = work.accepted
            bar.leaves_refused = work.replaced is not None and work.replaced.refusal is not None
        return 1 if bar.stage is Stage.STOPPED else 0

    freeze_loaded_objects(YOUNG_OBJECTS)
    with bar:
        try:
            code = run_until_stopped(main)
        except DifferenceError as error:
            if as_json:
                print_json(_result(name, bar, "differs") | {"differing": error.difference.users})
            fail(str(error))
        except _REFUSALS as error:
            fail(str(error))
        except OUTAGES as error:
            explain_outage(error)
    if as_json:
        print_json(_result(name, bar, bar.stage.name.lower()))
    else:
        say(bar.compared or "not compared with the command side")
        if bar.accepted:
            say(f"{name}: accepted that generation {bar.generation} {bar.accepted}")
        say(_outcome(name, bar))
    if code:
        raise typer.Exit(code)


def _result(name: str, bar: _ProgressBar, result: str) -> dict[str, Any]:
    return {
        "projection": name,
        "generation": bar.generation,
        "result": result,
        "compared": bar.compared,
        "accepted": bar.accepted or None,
    }


def _command(name: str) -> Callable[..., None]:
    def command(
        *,
        pause_before_switch: PauseOption = False,
        without_carry_over: WithoutCarryOverOption = False,
        accept_difference: AcceptDifferenceOption = False,
        processes: ProcessesOption,
        as_json: JsonOption = False,
    ) -> None:
        rebuild(
            name,
            pause_before_switch=pause_before_switch,
            without_carry_over=without_carry_over,
            accept_difference=accept_difference,
            as_json=as_json,
            processes=processes,
        )

    return command


for _name in PROJECTIONS:
    app.command(_name, help=f"Build a new generation of {_name} and let queries read it; resumes a killed one.")(
        _command(_name)
    )


@app.command()
def outdated() -> None:
    """Rebuild the projections whose shape is older than this version's, before its processes start."""
    names = _with_database(load(OperatorProjectorSettings), rebuilding.outdated)
    for name in names:
        # No relay runs and events wait, so everybody is compared only where somebody is left out.
        rebuild(
            name,
            pause_before_switch=False,
            without_carry_over=False,
            as_json=False,
            processes=_as_many_as_cores(),
            compare_always=False,
            hand_over=False,
        )
    if not names:
        say("every read table has the shape that this version reads")


@app.command()
def status(*, as_json: JsonOption = False) -> None:
    """Show every generation: what serves, what is being built, what stands by, and how far each is."""
    settings = load(OperatorProjectorSettings)
    found = _with_database(settings, lambda database: measure(settings, database))
    if as_json:
        print_json([_document(one) for one in found])
        return
    listed = table("projection", "generation", "status", "shape", "records behind", "seen until")
    for one in found:
        seen = "never" if one.seen_until is None else f"{one.seen_until:%F %T}"
        behind = "unknown" if one.records is None else f"{one.records:,}"
        listed.add_row(one.projection, str(one.number), one.status, str(one.shape), behind, seen)
    print_table(listed)


@app.command()
def rollback(
    name: ProjectionArgument,
    *,
    generation: Annotated[
        int | None, typer.Option(help="This one; without it, the newest that stands by and is not refused.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let queries read the generation before again; it has been fed all the time, so nobody sees anything older."""
    settings = load(OperatorProjectorSettings)
    before, after = _with_database(settings, lambda database: rebuilding.roll_back(database, name, generation))
    if as_json:
        print_json({"projection": name, "from": before.number, "to": after.number})
        return
    say(f"{name}: generation {after.number} serves again; {before.number} stands by")


@app.command()
def retire(
    name: ProjectionArgument,
    *,
    generation: Annotated[
        int | None, typer.Option(help="This one, also one that is being built; without it, all that stand by.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Drop the tables of generations that are not read any more; a rollback to them is then impossible."""
    settings = load(OperatorProjectorSettings)
    retired = _with_database(settings, lambda database: rebuilding.retire_generations(database, name, generation))
    if as_json:
        print_json({"projection": name, "retired": [one.number for one in retired]})
        return
    say(f"{name}: retired generation {', '.join(str(one.number) for one in retired)}")


async def _compare(query: Database, bar: _ProgressBar, generation: Generation) -> Verdict | None:
    """How the generation differs from the command side; None where we cannot ask that side."""
    try:
        address = load(OperatorCommandPostgres).command_database
        async with Database.open(address, application="muster-rebuild") as command:
            verdict = await Comparison(command, query, generation).run()
    except _NOT_ASKED as error:
        bar.compared = f"not compared with the command side: {describe(error)}"
        return None
    found = str(verdict) or "no difference"
    bar.compared = f"{counted(verdict.compared, 'user')} compared with the command side: {found}"
    return verdict


class _ProgressBar:
    """Shows a bar on a terminal, and lines elsewhere; keeps the last stage and generation."""

    def __init__(self, *, visible: bool) -> None:
        self.stage = Stage.STOPPED
        self.generation = 0
        #: Whether what served before is refused.
        self.leaves_refused = False
        #: The difference in spite of which it switched.
        self.accepted = ""
        #: What the comparison with the command side found, once there was one.
        self.compared: str | None = None
        console = Console(stderr=True)
        #: Into a log: a line now and then, the first after a while.
        self._lines = visible and not console.is_terminal
        self._next_line = time.monotonic() + LINE_SECONDS
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} records/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not (visible and console.is_terminal),
        )
        self._task = self._bar.add_task("starting", total=None, rate=0.0)

    def show(self, progress: rebuilding.Progress) -> None:
        self.generation = progress.generation
        if self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            done = f"{progress.done:,} of {counted(progress.total, 'record')}"
            say(f"generation {progress.generation}: {progress.stage}, {done}")
        self._bar.update(
            self._task,
            description=f"generation {progress.generation}: {progress.stage}",
            completed=progress.done,
            total=progress.total,
            rate=progress.rate,
        )

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _outcome(name: str, bar: _ProgressBar) -> str:
    match bar.stage:
        case Stage.DONE if bar.leaves_refused:
            return (
                f"{name}: generation {bar.generation} serves. The one before is refused, and fed no more:"
                f" `muster rebuild retire {name}` drops it, ten seconds from now."
            )
        case Stage.DONE:
            return (
                f"{name}: generation {bar.generation} serves. The one before is kept up to date:"
                f" `muster rebuild rollback {name}` goes back to it, `muster rebuild retire {name}` drops it."
            )
        case Stage.READY:
            return f"{name}: generation {bar.generation} has caught up. `muster rebuild {name}` switches to it."
        case _:
            return f"{name}: stopped. `muster rebuild {name}` goes on with generation {bar.generation}."


def _document(lag: GenerationLag) -> dict[str, Any]:
    return {
        "projection": lag.projection,
        "generation": lag.number,
        "status": lag.status,
        "shape": lag.shape,
        "state": lag.state,
        "reason": lag.reason,
        "records_behind": lag.records,
        "seen_until": lag.seen_until,
    }


def _with_database(settings: OperatorProjectorSettings, work: Callable[[Database], Awaitable[T]]) -> T:
    address = settings.query_database
    return with_database(address, work, application="muster-rebuild", refusals=_REFUSALS)
