"""What a caller is called in events, and what access lets it do."""

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import UUID

import pytest

from chassis.access.caller import Caller, Grant, InvalidActorError, cli_actor, encode_actor
from chassis.access.guard import Guard, access_of
from chassis.access.rules import AccessTable, Rule, UncoveredRouteError
from chassis.http.problems import Problem, ProblemType

ANN = UUID("018f3c5a-7b1e-7cc2-9a51-0242ac120002")
BOB = UUID("018f3c5a-7b1e-7cc2-9a51-0242ac120003")
TABLE = AccessTable(
    (
        Rule("GET", "/users", ("users:read",)),
        Rule("POST", "/users", ("users:register",)),
        Rule("GET", "/users/{id}", ("users:read",), own=True),
        Rule("PUT", "/users/{id}/password", ("users:write", "credentials:set"), own=True),
    ),
    public=["/schemas/"],
)


@pytest.mark.parametrize(
    ("subject", "actor"),
    [
        ("shop", "shop"),
        ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
        ("urn:service:shop.v1-2_3", "urn:service:shop.v1-2_3"),
        ("a b/c%d~e", "a%20b%2Fc%25d%7Ee"),
        ("zoë", "zo%C3%AB"),
        ("ann@example.com", f"sha256:{hashlib.sha256(b'ann@example.com').hexdigest()[:32]}"),
        ("selfish", "selfish"),
        ("x" * 255, "x" * 255),
    ],
)
def test_an_actor_has_one_written_form(subject: str, actor: str) -> None:
    assert encode_actor(subject) == actor


@pytest.mark.parametrize("subject", ["", "self", "SELF", "cli:ann", "Cli:", "sha256:ab", "x" * 256, "é" * 43, "\ud800"])
def test_a_subject_that_could_be_taken_for_another_is_refused(subject: str) -> None:
    with pytest.raises(InvalidActorError):
        encode_actor(subject)


@pytest.mark.parametrize(
    ("user", "actor"),
    [
        ("ann", "cli:ann"),
        ("self", "cli:self"),
        ("ann@corp", f"cli:sha256:{hashlib.sha256(b'ann@corp').hexdigest()[:32]}"),
    ],
)
def test_who_runs_a_command_has_a_form_that_no_token_can_claim(user: str, actor: str) -> None:
    assert cli_actor(user) == actor
    with pytest.raises(InvalidActorError):
        encode_actor(actor)


def test_the_subject_of_its_own_event_is_self() -> None:
    ann = Caller(issuer="i", subject=str(ANN).upper())

    assert (ann.actor(ANN), ann.on_behalf_of) == ("self", None)
    assert ann.actor(BOB) == str(ANN).upper()


def test_who_acts_goes_before_whom_they_act_for() -> None:
    helped = Caller(issuer="i", subject=str(ANN), acting="support/7")

    assert (helped.actor(ANN), helped.on_behalf_of) == ("support%2F7", str(ANN))


class Known:
    """Everybody is this caller."""

    def __init__(self, *scopes: str, subject: str = "shop") -> None:
        self.caller = Caller(issuer="i", subject=subject, scopes=frozenset(scopes))

    async def admit(self, authorization: str | None) -> Grant:
        del authorization
        return Grant(self.caller, lambda: 60.0)


async def ask(
    guard_for: Known | None, method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None
) -> MutableMapping[str, Any]:
    """The scope as the app behind the guard gets it."""
    seen: list[MutableMapping[str, Any]] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        del receive, send
        seen.append(scope)

    guard = Guard(app, table=TABLE, authenticator=lambda: guard_for)
    receive: Callable[[], Awaitable[Any]] = _never
    await guard({"type": "http", "method": method, "path": path, "headers": headers or []}, receive, _never)
    return seen[0]


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is read or sent before access was decided")


async def refused(known: Known, method: str, path: str) -> tuple[ProblemType, str]:
    with pytest.raises(Problem) as problem:
        await ask(known, method, path)
    return problem.value.type, problem.value.headers["WWW-Authenticate"]


async def test_a_scope_opens_its_routes_and_no_others() -> None:
    reader = Known("users:read", "email", "profile")

    for path in ("/users", f"/users/{ANN}", "/users/whatever"):
        for method in ("GET", "HEAD"):
            access = access_of(await ask(reader, method, path))
            assert (access.caller, access.own_only) == (reader.caller, False)
    kind, challenge = await refused(reader, "POST", "/users")
    assert (kind.slug, challenge) == ("forbidden", 'Bearer error="insufficient_scope", scope="users:register"')


@pytest.mark.parametrize("path", ["/", "/health", "/problems/forbidden", "/schemas/x.json", "/nowhere", "/users/a/b/c"])
async def test_what_is_public_or_no_route_passes_without_access(path: str) -> None:
    scope = await ask(Known(), "GET", path)

    with pytest.raises(RuntimeError, match="past the access guard"):
        access_of(scope)


@pytest.mark.parametrize("path", ["/users\n", "/users/", "//users", "/Users", "/users//password", "/users/\n/x"])
async def test_a_path_that_only_looks_like_a_route_is_never_let_in(path: str) -> None:
    with pytest.raises((RuntimeError, Problem), match=r"past the access guard|not-found"):
        access_of(await ask(Known("users:read"), "GET", path))


def test_a_table_itself_refuses_what_the_framework_would_misread_for_every_guard() -> None:
    table = AccessTable((Rule("GET", "/users/{id}", ("users:read",)), Rule("POST", "/users/import", ("users:import",))))

    for path in ("/users/x\n", "/users/import\n", "/nowhere\n"):
        with pytest.raises(Problem, match="not-found"):
            table.find("GET", path)
    with pytest.raises(Problem, match="method-not-allowed") as refused_method:
        table.find("GET", "/users/import")
    assert refused_method.value.headers == {"Allow": "POST"}


async def test_self_opens_what_is_its_own_and_sees_others_as_absent() -> None:
    ann = Known("self", subject=str(ANN))
    access = access_of(await ask(ann, "GET", f"/users/{BOB}"))

    assert access.own_only
    assert access.visible(ANN) == ANN
    assert access.visible(BOB) not in {ANN, BOB}
    assert not access.may("credentials:set")
    assert (await refused(ann, "GET", "/users"))[0].slug == "forbidden"


async def test_where_another_scope_opens_the_route_self_decides_nothing() -> None:
    both = Known("self", "users:read", subject=str(ANN))

    assert access_of(await ask(both, "GET", f"/users/{BOB}")).visible(BOB) == BOB


async def test_self_of_somebody_who_is_no_user_sees_nobody() -> None:
    access = access_of(await ask(Known("self", subject="shop"), "GET", f"/users/{ANN}"))

    assert access.visible(ANN) != ANN


async def test_switched_off_everything_is_open() -> None:
    access = access_of(await ask(None, "PUT", f"/users/{ANN}/password"))

    assert access.may("credentials:set")
    assert access.visible(ANN) == ANN


def test_a_route_that_says_nothing_about_access_is_named() -> None:
    TABLE.require_cover([("GET", "/users"), ("GET", "/schemas/{name}.json"), ("HEAD", "/health")])
    for method, path in (("DELETE", "/users/{id}"), ("POST", "/health"), ("GET", "/healthy"), ("GET", "/problemsx")):
        with pytest.raises(UncoveredRouteError, match=f"{method} {path}"):
            TABLE.require_cover([(method, path)])
