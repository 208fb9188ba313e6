"""Who may do what with the command API: every route, every kind of caller; and that self cannot tell who exists."""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from asyncpg import Connection
from fastapi import FastAPI

from chassis.access.rules import Rule, UncoveredRouteError
from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from command_api.access import ACCESS
from command_api.app import create_app
from command_api.passwords.lanes import Lane
from tests.integration.access.callers import assert_refused, send, shape, statements
from tests.integration.command_api.conftest import make_settings, problem, register, registration, serving
from tests.issuing import bearer

RULES: Final = {f"{rule.method} {rule.path}": rule for rule in ACCESS}
OWN: Final = [name for name, rule in RULES.items() if rule.own]
#: By route: the body of a request that succeeds, for whoever may send it, about a user named ann.
BODIES: Final[dict[str, Any]] = {
    "POST /users": registration("new"),
    "PUT /users/{id}/email": {"email": "ann@example.org"},
    "POST /users/{id}/email/verify": {"email": "ann@example.com"},
    "PUT /users/{id}/username": {"username": "ann.example"},
    "PUT /users/{id}/password": {"password": "another password", "current_password": "ann's password"},
    "PATCH /users/{id}/profile": {"display_name": "Ann", "attributes": {"theme": "dark"}},
    "POST /users/{id}/deactivate": {},
    "POST /users/{id}/reactivate": {},
    "DELETE /users/{id}": None,
    "POST /users/import": None,
    "POST /credentials/verify": {"identifier": "ann", "password": "ann's password"},
    "POST /users/{id}/one-time-tokens": {"purpose": "password-reset"},
    "POST /one-time-tokens/redeem": {"token": "unknown"},
}

#: What the route itself refuses of these.
LET_IN: Final = {
    # The second of two changes of a password does not know the current one any more.
    "PUT /users/{id}/password": (403, "wrong-password"),
    "POST /one-time-tokens/redeem": (400, "invalid-one-time-token"),
}


@pytest.fixture
def app(command_database: PostgresAddress) -> FastAPI:
    return create_app(make_settings(command_database, AUTH_SELF_ATTRIBUTES="theme"))


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as client:
        yield client


def sent(name: str) -> dict[str, Any]:
    """What a request of a route consists of beside its path."""
    if name == "POST /users/import":
        return {"content": b"{}\n", "extra": {"content-type": "application/x-ndjson"}}
    return {} if BODIES[name] is None else {"json": BODIES[name]}


async def ask(api: httpx.AsyncClient, name: str, user_id: Any, headers: dict[str, str], **how: Any) -> httpx.Response:
    rule = RULES[name]
    request = {**sent(name), **how}
    headers = {**headers, **request.pop("extra", {})}
    return await send(api, rule, rule.path.replace("{id}", str(user_id)), headers, **request)


def test_there_is_a_request_for_every_route() -> None:
    assert set(BODIES) == set(RULES)


@pytest.mark.parametrize("name", RULES)
async def test_whoever_may_not_is_refused_before_the_body_is_read(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str
) -> None:
    rule = RULES[name]

    for user_id in (ann["id"], str(new_id()), "no-id"):
        await assert_refused(api, rule, rule.path.replace("{id}", user_id), UUID(ann["id"]))


@pytest.mark.parametrize("name", RULES)
async def test_each_scope_of_a_route_opens_it(api: httpx.AsyncClient, ann: dict[str, Any], name: str) -> None:
    for scope in RULES[name].scopes:
        answer = await ask(api, name, ann["id"], bearer("shop", ["openid", scope]))
        assert answer.is_success or problem(answer, *LET_IN[name]), answer.text


@pytest.mark.parametrize("name", OWN)
async def test_self_may_what_the_table_says_of_itself(api: httpx.AsyncClient, ann: dict[str, Any], name: str) -> None:
    answer = await ask(api, name, ann["id"], bearer(ann["id"], ["self"]))

    assert answer.is_success, answer.text


@pytest.mark.parametrize("more", [{}, {"If-Match": '"1"'}, {"If-Match": "*"}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("name", OWN)
async def test_to_self_every_other_user_is_absent(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str, more: dict[str, str]
) -> None:
    headers = {**bearer(ann["id"], ["self"]), **more}
    there = [await register(api, other) for other in ("bob", "cid", "dan")]
    await api.post(f"/users/{there[1]['id']}/deactivate", json={})
    await api.delete(f"/users/{there[2]['id']}")
    ids = [UUID(user["id"]) for user in there]
    absent = new_id()

    expected = shape(await ask(api, name, absent, headers), absent)

    assert expected[0] == 404
    for user_id in ids:
        assert shape(await ask(api, name, user_id, headers), user_id) == expected
    # Whoever registers anew finds them as they were.
    assert (await api.post("/users", json=registration("bob"))).status_code == 409


@pytest.mark.parametrize("name", OWN)
async def test_to_self_every_other_user_takes_as_long_as_an_absent_one(
    api: httpx.AsyncClient, app: FastAPI, ann: dict[str, Any], name: str
) -> None:
    """The same statements for each, and no hash (as below)."""
    there = [await register(api, other) for other in ("bob", "cid", "dan")]
    await api.post(f"/users/{there[1]['id']}/deactivate", json={})
    await api.delete(f"/users/{there[2]['id']}")
    mine, pool = bearer(ann["id"], ["self"]), app.state.resources.database._pool
    ids = [new_id(), *(user["id"] for user in there)]

    sent = [await statements(pool, ask(api, name, user_id, mine)) for user_id in ids]
    own = await statements(pool, ask(api, name, ann["id"], mine))

    assert sent[0]
    assert sent == [sent[0]] * len(ids)
    assert own != sent[0], "the statements are seen"


@pytest.mark.parametrize("name", OWN)
async def test_one_who_is_deactivated_may_erase_itself_and_change_nothing(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str
) -> None:
    mine = bearer(ann["id"], ["self"])
    assert (await ask(api, "POST /users/{id}/deactivate", ann["id"], mine)).status_code == 200

    answer = await ask(api, name, ann["id"], mine)

    if name == "DELETE /users/{id}":
        assert answer.status_code == 204
    elif name == "POST /users/{id}/deactivate":
        assert answer.status_code == 200, "there is nothing to change"
    else:
        problem(answer, 409, "user-deactivated")


@pytest.mark.parametrize("name", OWN)
async def test_self_is_not_replayed_what_a_wider_token_of_its_own_was_answered(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str
) -> None:
    """Nor does the refusal of self take the key from the wider token."""
    mine, wide = bearer(ann["id"], ["self"]), bearer(ann["id"], RULES[name].scopes)
    bob, cid = await register(api, "bob"), await register(api, "cid")

    async def of(user: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        body = BODIES[name] and {**BODIES[name], **of_their_own(name, user)}
        request: dict[str, Any] = {} if body is None else {"json": body}
        return await ask(api, name, user["id"], {**headers, "Idempotency-Key": user["username"]}, **request)

    first, narrow = await of(bob, wide), await of(bob, mine)
    early, later, again = await of(cid, mine), await of(cid, wide), await of(cid, wide)

    assert first.is_success, first.text
    for refused_one in (narrow, early):
        problem(refused_one, 404, "user-not-found")
        assert "idempotent-replayed" not in refused_one.headers
    assert later.status_code == first.status_code, later.text
    assert "idempotent-replayed" not in later.headers
    assert again.headers["idempotent-replayed"] == "true"


def of_their_own(name: str, user: dict[str, Any]) -> dict[str, str]:
    """What two users cannot both have, or only one of them knows."""
    match name:
        case "PUT /users/{id}/email":
            return {"email": f"{user['username']}@example.org"}
        case "PUT /users/{id}/username":
            return {"username": f"{user['username']}.example"}
        case "PUT /users/{id}/password":
            return {"current_password": f"{user['username']}'s password"}
        case _:
            return {}


async def test_a_key_of_somebody_else_is_another_key(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    answers = [
        await api.post("/users", json=registration(name), headers={**bearer(subject, ["users:register"]), **key})
        for subject, name in (("shop", "ann"), ("till", "bob"), ("shop", "ann"))
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, None, "true"]


async def test_a_stored_answer_is_not_replayed_to_a_token_that_lacks_the_scope(
    api: httpx.AsyncClient, ann: dict[str, Any]
) -> None:
    how: dict[str, Any] = {"json": {"password": "another password"}}
    both = {**bearer("shop", ["credentials:set"]), "Idempotency-Key": "k"}
    less = {**bearer("shop", ["users:write"]), "Idempotency-Key": "k"}

    first = await ask(api, "PUT /users/{id}/password", ann["id"], both, **how)
    again = await ask(api, "PUT /users/{id}/password", ann["id"], less, **how)

    assert first.status_code == 204
    refused(again, "credentials:set")


def refused(answer: httpx.Response, scope: str) -> None:
    problem(answer, 403, "forbidden")
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'


@pytest.mark.parametrize("unusual", [{}, {"Accept": "application/json, */*"}])
@pytest.mark.parametrize("scopes", [["users:write"], ["self"], ["self", "users:write"]])
async def test_a_reset_needs_its_own_scope_whatever_the_id(
    api: httpx.AsyncClient, ann: dict[str, Any], scopes: list[str], unusual: dict[str, str]
) -> None:
    """The unusual header leads around the fast path."""
    for user_id in (ann["id"], new_id()):
        for body in ({"password": "another password"}, {"password": "another password", "current_password": None}):
            headers = {**bearer(ann["id"], scopes), **unusual}
            refused(await ask(api, "PUT /users/{id}/password", user_id, headers, json=body), "credentials:set")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("PATCH /users/{id}/profile", {"attributes": None}),
        ("PATCH /users/{id}/profile", {"attributes": {"plan": "pro"}}),
        ("PATCH /users/{id}/profile", {"attributes": {"theme": "dark", "plan": None}, "display_name": "Ann"}),
        ("POST /users/{id}/deactivate", {"reason": "bored"}),
    ],
)
async def test_self_is_refused_what_others_rely_on_as_a_whole(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str, body: Any
) -> None:
    mine = bearer(ann["id"], ["self"])

    for user_id in (ann["id"], new_id()):
        refused(await ask(api, name, user_id, mine, json=body), "users:write")
    after = await api.patch(f"/users/{ann['id']}/profile", json={})
    assert {field: after.json()[field] for field in ann} == ann
    assert (await ask(api, name, ann["id"], bearer("shop", ["users:write"]), json=body)).status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "scope"),
    [
        ("PATCH /users/{id}/profile", {"status": "x"}, "users:write"),
        ("PATCH /users/{id}/profile", {"attributes": None, "display_name": 7}, "users:write"),
        ("PATCH /users/{id}/profile", {"attributes": {"plan": "pro"}, "display_name": 7}, "users:write"),
        ("PATCH /users/{id}/profile", {"attributes": {"plan": "pro", "theme": "x" * 20_000}}, "users:write"),
        ("POST /users/{id}/deactivate", {"reason": 5}, "users:write"),
        ("POST /users/{id}/deactivate", {"reason": "bored", "x": 1}, "users:write"),
        ("PUT /users/{id}/password", {"current_password": None}, "credentials:set"),
        ("PUT /users/{id}/password", [], "credentials:set"),
        ("PUT /users/{id}/password", {"password": "x"}, "credentials:set"),
        ("PUT /users/{id}/password", {"x": 1}, "credentials:set"),
    ],
)
async def test_self_is_told_what_it_may_not_ask_for_before_what_is_wrong_with_it(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str, body: Any, scope: str
) -> None:
    for user_id in (ann["id"], new_id()):
        for more in ({}, {"Accept": "application/json, */*"}):  # the fast path, and the framework
            refused(await ask(api, name, user_id, {**bearer(ann["id"], ["self"]), **more}, json=body), scope)


async def test_a_reset_without_any_body_is_told_its_scope_too(api: httpx.AsyncClient, ann: dict[str, Any]) -> None:
    headers = {**bearer(ann["id"], ["self"]), "Content-Type": "application/json"}

    refused(await ask(api, "PUT /users/{id}/password", ann["id"], headers, json=None, content=b""), "credentials:set")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("PATCH /users/{id}/profile", {"display_name": 7}),
        ("PATCH /users/{id}/profile", {"attributes": 7}),
        ("PATCH /users/{id}/profile", []),
        ("POST /users/{id}/deactivate", {"x": 1}),
        ("PUT /users/{id}/password", {"current_password": 7}),
    ],
)
async def test_what_is_only_wrong_is_no_matter_of_access(
    api: httpx.AsyncClient, ann: dict[str, Any], name: str, body: Any
) -> None:
    problem(await ask(api, name, ann["id"], bearer(ann["id"], ["self"]), json=body), 422, "validation-error")


async def test_a_password_of_somebody_else_costs_self_no_hash_and_touches_no_counter(
    api: httpx.AsyncClient, ann: dict[str, Any], database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time of the refusal does not tell who exists."""
    hashed: list[object] = []
    run = Lane.run

    async def counting(lane: Any, work: Any, whose: Any) -> Any:
        hashed.append(work)
        return await run(lane, work, whose)

    monkeypatch.setattr(Lane, "run", counting)
    bob, name = await register(api, "bob"), "PUT /users/{id}/password"
    spent, hashes = await counters(database), len(hashed)
    assert hashes == 1, "the one of bob's registration"
    for user_id in (bob["id"], new_id()):
        for current in ("bob's password", "a wrong one"):
            body = {"password": "another password", "current_password": current}
            problem(await ask(api, name, user_id, bearer(ann["id"], ["self"]), json=body), 404, "user-not-found")
    assert (len(hashed), await counters(database)) == (hashes, spent)

    body = {"password": "another password", "current_password": "a wrong one"}
    await ask(api, name, ann["id"], bearer(ann["id"], ["self"]), json=body)
    assert len(hashed) == hashes + 1
    assert await counters(database) > spent


async def counters(database: Connection) -> list[tuple[Any, ...]]:
    """The counters of attempts as they are."""
    rows = await database.fetch("SELECT counter, failed_at FROM credential_attempts ORDER BY counter")
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/users/", 404),
        ("POST", "/users%0A", 404),
        ("PUT", "/users//email", 404),
        ("GET", "/users", 405),
        ("PUT", "/users/x", 405),
        ("OPTIONS", "/users", 405),
        ("PUT", "/users/import", 405),
        ("DELETE", "/users/import", 405),
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/problems/forbidden", 200),
        ("GET", "/problems/misdirected-request", 200),
    ],
)
async def test_what_is_no_route_or_public_needs_no_token(
    api: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    rule = Rule(method, path, ())

    assert (await send(api, rule, path, {})).status_code == status
    assert (await send(api, rule, path, bearer("shop", ()))).status_code == status


async def test_a_route_that_says_nothing_about_access_keeps_the_api_from_starting(
    command_database: PostgresAddress,
) -> None:
    app = create_app(make_settings(command_database))
    app.post("/users/{id}/promote")(lambda: None)

    with pytest.raises(UncoveredRouteError, match=r"POST /users/\{id\}/promote"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it must not start")


async def test_every_operation_of_the_document_says_what_opens_it(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for rule in ACCESS:
        operation = document["paths"][rule.path][rule.method.lower()]
        assert operation["security"] == [{"bearer": []}]
        assert all(f"`{scope}`" in operation["description"] for scope in rule.scopes)
        assert {"401", "403"} <= set(operation["responses"])


async def test_a_user_may_try_ten_names_of_its_own_a_minute_and_a_service_any_number(api: httpx.AsyncClient) -> None:
    ann = await register(api, "ann")
    await register(api, "bob")
    path, own = f"/users/{ann['id']}/username", bearer(ann["id"], ["self"])
    tried = [await api.put(path, json={"username": "bob"}, headers=own) for _ in range(12)]
    profile = await api.patch(f"/users/{ann['id']}/profile", json={"display_name": "Ann"}, headers=own)
    service = [await api.put(path, json={"username": "bob"}) for _ in range(12)]

    assert [answer.status_code for answer in tried] == [409] * 10 + [429] * 2
    problem(tried[-1], 429, "too-many-requests")
    assert int(tried[-1].headers["retry-after"]) in range(1, 7)
    assert tried[-1].headers["ratelimit-policy"] == '"self";q=10;w=60'
    assert profile.status_code == 200
    assert {answer.status_code for answer in service} == {409}
