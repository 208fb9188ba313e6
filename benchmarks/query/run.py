"""The bars of the query API at 1,000,000 users, one worker on one core, each against its reference in the same run.

Servers take one core, PostgreSQL and the load generator the other.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.population import FIXED_HASH, fill_query, user_id
from benchmarks.query.rate_limits import looks
from benchmarks.query.stall import stalls
from benchmarks.reporting.figures import number, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.collector import collecting
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.load import Next, closed_loop, open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Rounds, Sample, interleave, pooled
from benchmarks.running.servers import Servers, open_servers, pin_servers
from benchmarks.running.tokens import Access
from query_api.protocol.cursors import CursorSeal
from query_api.settings import QueryApiSettings
from query_api.users.places import PagePlace

#: Number of different pages; more than are in flight at once.
CURSORS: Final = 500
CONNECTIONS: Final = 32
FIRST_PAGE: Final = request("/users?limit=50")
GUIDE_PAGE: Final = request("/users/?skip=0&limit=50")
#: Connections of an open loop: enough that no request waits for a free one.
OPEN_CONNECTIONS: Final = 256
#: Users looked up by id, spread over all.
DETAILS: Final = 2000
GUIDE: Final = f"""
CREATE TABLE guide_users AS SELECT id, email_key AS email, username_key AS username, '{FIXED_HASH}' AS hashed_password,
    status = 'active' AS is_active, created_at, updated_at FROM users_g1;
ALTER TABLE guide_users ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON guide_users (email);
CREATE UNIQUE INDEX ON guide_users (username);
"""  # noqa: S608 - a constant
FILL_SECONDS: Final = 300
#: Seconds of one probe at most: there are many probes, and each answers thousands of requests in that time.
PROBE_SECONDS: Final = 1.2
#: A round of the peaks is so many turns, each with a part of the time: the machine's speed changes within seconds.
SLICES: Final = 4
#: Seconds of a latency probe, which is not divided: a percentile of few requests says little.
LATENCY_SECONDS: Final = 1.0
#: The size of the guide's pool; beyond it, it opens and closes a connection for each request and is slower still.
GUIDE_CONNECTIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Ports:
    """The servers of both references and of Muster."""

    hello: int
    guide: int
    muster: int
    #: Muster with access on.
    guarded: int
    #: Muster with a tenth of its traces recorded.
    traced: int


async def run(plan: Plan) -> Result:
    """Measure pages and single users at the peak, then latencies at half of it."""
    result = Result("Query API")
    seconds = min(plan.seconds, PROBE_SECONDS)
    result.note(
        "One worker on one core; PostgreSQL and the load generator have the others. 32 connections (20, its pool's "
        f"size, for the guide) ask as fast as they are answered, {seconds:g} s a round in {SLICES} turns; latencies are"
        " those of an open loop, counted from when each request was due. Access is off, as the "
        "references ask for no token, but where one is named."
    )
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan, kafka=False))
        plan.say(f"filling {plan.users:,} users")
        await prepare(servers, plan.users)
        pin_servers(servers)
        stack.enter_context(pinned(OTHER_CORES))
        environment = {"GUIDE_DATABASE_URL": servers.url("query")}
        guide = await stack.enter_async_context(
            servers.app(
                "benchmarks.references.guide.app:create_app", cores=SERVER_CORES, variables=environment, ready="/health"
            )
        )
        hello = await stack.enter_async_context(
            servers.app("benchmarks.references.hello.app:create_app", cores=SERVER_CORES, ready="/hello")
        )
        muster = await stack.enter_async_context(
            servers.app("cli.processes.serve:query_app", cores=SERVER_CORES, hot=True)
        )
        access = Access(plan.folder)
        guarded = await stack.enter_async_context(
            servers.app("cli.processes.serve:query_app", cores=SERVER_CORES, variables=access.variables)
        )
        collector = await stack.enter_async_context(collecting())
        traced = await stack.enter_async_context(
            servers.app("cli.processes.serve:query_app", cores=SERVER_CORES, variables=collector.variables)
        )
        shallow, deep = await cursors_at(servers, 0), await cursors_at(servers, plan.users * 9 // 10)
        # Its first connections take seconds, since each checks a password and reads types.
        await open_loop(guide.port, lambda: GUIDE_PAGE, rate=GUIDE_CONNECTIONS, connections=4, seconds=2)
        ports = Ports(hello.port, guide.port, muster.port, guarded.port, traced.port)
        peak = await measured_peaks(plan, ports, access, shallow, deep)
        result.table(peak)
        claim_peaks(result, peak)
        claim_access(result, peak)
        result.claim(
            "by id with 10 % of traces recorded / with none", peak.ratio("by id, traced", "by id"), at_least=0.97
        )
        await looks(plan, result)
        await latencies(plan, result, peak, ports)
        each_page, each_user = pages(shallow), itertools.cycle([request(path) for path in detail_paths(plan.users)])
        subjects: dict[str, tuple[Next, float]] = {
            "list 50": (lambda: FIRST_PAGE, peak["list 50"].median),
            "near pages": (lambda: next(each_page), peak["near pages"].median),
            "by id": (lambda: next(each_user), peak["by id"].median),
        }
        measured = {name: subject for name, subject in subjects.items() if peak[name].rounds}
        await stalls(plan, result, servers, muster.port, measured)
    assert collector.taken_bytes, "what was measured was not traced"
    return result


async def prepare(servers: Servers, users: int) -> None:
    """Fill both designs' tables with the same users."""
    async with servers.session("query") as connection:
        await fill_query(connection, users)
        await connection.execute(GUIDE, timeout=FILL_SECONDS)
        await connection.execute("VACUUM ANALYZE guide_users", timeout=FILL_SECONDS)


async def cursors_at(servers: Servers, depth: int) -> list[str]:
    """Return cursors of different pages from that depth on, sealed with the server's own key."""
    async with servers.session("query") as connection:
        rows = await connection.fetch(
            "SELECT uuid_send(id) || timestamptz_send(created_at) AS position FROM users_g1"
            " ORDER BY created_at DESC, id DESC OFFSET $1 LIMIT $2",
            depth,
            CURSORS,
        )
    seal = CursorSeal(servers.settings(QueryApiSettings).cursor_key_ring)
    newest_first = PagePlace("-created_at", {}, b"")
    return [newest_first.next_cursor(row["position"], seal) for row in rows]


def pages(cursors: list[str]) -> Iterator[bytes]:
    """Return requests for different pages."""
    return itertools.cycle([request(f"/users?limit=50&cursor={cursor}") for cursor in cursors])


def detail_paths(users: int) -> list[str]:
    """Return requests for single users, spread over all."""
    step = max(1, users // DETAILS)
    return [f"/users/{user_id(number)}" for number in range(1, users + 1, step)]


async def measured_peaks(plan: Plan, ports: Ports, access: Access, shallow: list[str], deep: list[str]) -> Rounds:
    """Run every probe a few times in a round, each time in its turn."""
    turn = replace(plan, rounds=plan.rounds * SLICES, seconds=min(plan.seconds, PROBE_SECONDS) / SLICES)
    return pooled(await interleave(turn, peaks(turn, ports, access, shallow, deep), unit="requests/s"), SLICES)


def peaks(plan: Plan, ports: Ports, access: Access, shallow: list[str], deep: list[str]) -> dict[str, Probe]:
    """Return the probes that ask as fast as they are answered."""

    def closed(port: int, paths: Iterable[str], connections: int = CONNECTIONS, headers: Sequence[str] = ()) -> Probe:
        return asking(port, itertools.cycle([request(path, *headers) for path in paths]), connections)

    def asking(port: int, requests: Iterator[bytes], connections: int = CONNECTIONS) -> Probe:
        async def probe() -> Sample:
            measured = await closed_loop(port, lambda: next(requests), connections=connections, seconds=plan.seconds)
            return measured.sample()

        return probe

    details = detail_paths(plan.users)
    hot = [access.header()]
    cold = (
        request(path, header) for path, header in zip(itertools.cycle(details), access.cold_headers(), strict=False)
    )
    hello, guide, muster = ports.hello, ports.guide, ports.muster
    return {
        "hello": closed(hello, ["/hello"]),
        "guide list 50": closed(guide, ["/users/?skip=0&limit=50"], GUIDE_CONNECTIONS),
        "list 50": closed(muster, ["/users?limit=50"]),
        "guide list 100": closed(guide, ["/users/?skip=0&limit=100"], GUIDE_CONNECTIONS),
        "list 100": closed(muster, ["/users?limit=100"]),
        "guide by id": closed(guide, details, GUIDE_CONNECTIONS),
        "by id": closed(muster, details),
        "list 50, token": closed(ports.guarded, ["/users?limit=50"], headers=hot),
        "by id, token": closed(ports.guarded, details, headers=hot),
        "by id, traced": closed(ports.traced, details),
        "by id, cold tokens": asking(ports.guarded, cold),
        # Different users, so that no request shares another's rows while it queues.
        "near pages": closed(muster, [f"/users?limit=50&cursor={cursor}" for cursor in shallow]),
        "deep pages": closed(muster, [f"/users?limit=50&cursor={cursor}" for cursor in deep]),
        # One after the other, so that the rate is the inverse of one page's latency.
        "hello, alone": closed(hello, ["/hello"], 1),
        "deep page, alone": closed(muster, [f"/users?limit=50&cursor={cursor}" for cursor in deep], 1),
        "guide deep page, alone": closed(guide, [f"/users/?skip={plan.users * 9 // 10}&limit=50"], 1),
    }


def claim_peaks(result: Result, peak: Rounds) -> None:
    """Add the bars of throughput."""
    # One page for all, whose rows are shared by requests at the same time; and different pages, which cannot be shared.
    result.claim("list 50 / guide", peak.ratio("list 50", "guide list 50"), at_least=14)
    apart = apart_reason(peak)
    result.claim("list 50, no two alike / guide", peak.ratio("near pages", "guide list 50"), at_least=14, reason=apart)
    result.claim("list 100 / guide", peak.ratio("list 100", "guide list 100"), at_least=22)
    result.claim("list 50 / hello", peak.ratio("list 50", "hello"), at_least=0.65)
    result.claim("list 50, no two alike / hello", peak.ratio("near pages", "hello"), at_least=0.65, reason=apart)
    result.claim("by id / guide", peak.ratio("by id", "guide by id"), at_least=7)
    result.claim("by id / hello", peak.ratio("by id", "hello"), at_least=0.8)
    result.claim("near pages / deep pages", peak.ratio("near pages", "deep pages"), at_most=1.2)
    deep = peak.ratio("deep page, alone", "guide deep page, alone")
    result.claim("guide's latency of a deep page / ours", deep, at_least=400, reason=_deep_reason(peak))
    result.observed("guide's latency of a deep page / hello's", peak.ratio("hello, alone", "guide deep page, alone"))


def apart_reason(peak: Rounds) -> str:
    """Return the reason why different pages are slower than one that all ask for."""
    apart, shared = (number(quotient(1e6, peak[name].median)) for name in ("near pages", "list 50"))
    return (
        f"a page takes {apart} µs, for it has a cursor to open, one to seal, and rows of its own to pass on from"
        f" PostgreSQL; those who ask for one page at once share these, and it takes {shared} µs"
    )


def claim_access(result: Result, peak: Rounds) -> None:
    """Add the bars of what tokens cost, on the core that the app has."""
    result.claim("list 50 with a token / without", peak.ratio("list 50, token", "list 50"), at_least=0.95)
    result.claim("by id with a token / without", peak.ratio("by id, token", "by id"), at_least=0.95)
    result.claim(
        "time of a cold token",
        peak.combined(
            "by id, cold tokens", "by id, token", lambda cold, hot: quotient(1000, cold) - quotient(1000, hot)
        ),
        at_most=0.3,
        unit="ms",
    )


def _deep_reason(peak: Rounds) -> str:
    """Return the reason why the guide's deepest page is less slow than its bar expects."""
    guide, ours, hello = (
        quotient(1000, peak[name].median) for name in ("guide deep page, alone", "deep page, alone", "hello, alone")
    )
    return (
        f"the guide's takes {number(guide)} ms, since the rows that it skips lie in memory, and ours {number(ours)} ms;"
        f" a 400th of the guide's is {number(guide / 400)} ms, and even hello world takes {number(hello)} ms to answer"
        " a lone request"
    )


async def latencies(plan: Plan, result: Result, peak: Rounds, ports: Ports) -> None:
    """Add p99 at half of the peak, beside that of hello world at the same rate."""
    plan = replace(plan, seconds=min(plan.seconds, LATENCY_SECONDS))
    details = itertools.cycle([request(path) for path in detail_paths(plan.users)])
    hello = request("/hello")
    subjects: dict[str, Next] = {"list 50": lambda: FIRST_PAGE, "by id": lambda: next(details)}

    def at_rate(port: int, following: Next, rate: float) -> Probe:
        async def probe() -> Sample:
            measured = await open_loop(port, following, rate=rate, connections=OPEN_CONNECTIONS, seconds=plan.seconds)
            return Sample(measured.percentile(0.99) * 1000, {"p50": measured.percentile(0.5) * 1000})

        return probe

    for name, following in subjects.items():
        if not peak[name].rounds:
            result.note(f"The latency of {name} was not measured: its peak has no figure.")
            continue
        rate = peak[name].median / 2
        probes = {
            f"hello, p99 at {rate:,.0f}/s": at_rate(ports.hello, lambda: hello, rate),
            f"{name}, p99 at {rate:,.0f}/s": at_rate(ports.muster, following, rate),
        }
        rounds = await interleave(plan, probes, unit="ms")
        result.table(rounds)
        reference, subject = probes
        ratio = rounds.ratio(subject, reference, guard="p50")
        result.claim(f"p99 of {name} at half its peak / hello's", ratio, at_most=5)
