"""What people do in the console and in the APIs' documentation, each job in a real Chromium against one whole stack.

Parts of the stack stop for some. Later tests look at what earlier ones did. All but what is live is done without
scripts, too.
"""

import asyncio

import pytest

from tests.browser.filling import Clients, clients, park
from tests.browser.office import Office, Operator, sign_in, stopped

NAUGHTY = "<img src=x onerror=alert(1)>\"'&{{7*7}}<script>alert(2)</script>"
#: As wide as names may be.
WIDE, WIDER = "Ŵ" * 50, "\uff37" * 50
#: With scripts and without.
BOTH = (True, False)
both = pytest.mark.parametrize("scripts", BOTH, ids=["scripts", "no-scripts"])


async def test_an_overview_to_which_nothing_comes_says_so_until_something_comes(office: Office) -> None:
    said = await office.operator.do("outwait")

    assert said["headline"] == "Not known any more"
    assert "nothing has come from the console for" in said["words"]


async def test_whoever_signs_out_is_out_also_of_an_overview_that_is_open(office: Office) -> None:
    said = await office.operator.do("lose_session")

    assert (said["out"], said["after"]) == ("Sign in", "Sign in")
    assert said["headline"] == "Not known any more"
    assert "not signed in any more" in said["words"]
    assert said["way"] == "/sign-in"
    assert said["states"] == "not known"


async def test_is_all_well(office: Office) -> None:
    await sign_in(office.stack, office.operator)
    said = [await office.operator.do("see_that_all_is_well", scripts=scripts) for scripts in BOTH]

    assert [each["states"] for each in said] == [["well"]] * 2


async def test_whoever_has_no_scripts_signs_in_and_out(office: Office) -> None:
    other = Operator(office.operator.base, office.operator.browser)
    await sign_in(office.stack, other, scripts=False)
    said = await other.do("sign_out", scripts=False)

    assert (said["out"], said["after"]) == ("Sign in", "Sign in")


@pytest.mark.parametrize(("name", "scripts"), [(WIDE, True), (WIDER, False)], ids=["scripts", "no-scripts"])
async def test_a_user_is_found_read_deactivated_reactivated_and_reset_whatever_they_wrote(
    office: Office, name: str, scripts: bool
) -> None:
    await _register_naughty(office, name)
    said = await office.operator.do("find_and_act", name=name, scripts=scripts)

    assert name not in said["masked"]
    assert said["clear"] == name
    assert NAUGHTY in said["document"]
    assert said["Deactivate"] == "The user is deactivated."
    assert said["Reactivate"] == "The user is active again."
    assert len(said["token"]) == 43


async def _register_naughty(office: Office, name: str) -> None:
    """A user whose every field a careless page would take apart."""
    async with clients(office.stack) as api:
        body = {
            "email": f"naughty-{len(name.encode())}@example.com",
            "username": name,
            "password": "correct horse battery",
            "display_name": NAUGHTY,
            "attributes": {NAUGHTY: [NAUGHTY]},
        }
        await api.visible((await api.command("POST", "/users", body)).json()["id"])


@both
async def test_an_address_is_corrected_and_the_event_is_seen_to_travel(office: Office, scripts: bool) -> None:
    said = await office.operator.do(
        "correct_an_address",
        user=office.filled.changed,
        email=f"ada@right.{scripts}.example.com",
        kind="Address changed",
        scripts=scripts,
    )

    assert said["notice"] == "The address is changed."
    assert "Address changed" in said["newest"]
    assert "by operator" in said["newest"]
    assert "on Kafka after" in said["newest"]
    assert "in the read table" in said["newest"]
    assert "ada@right" not in said["newest"], "it is masked until somebody asks for it"


async def test_that_the_relay_fails_is_seen_and_why(office: Office) -> None:
    async with stopped(office.stack, "relay"):
        part = "Not well: Relay, none leads"
        said = [await office.operator.do("see_what_is_not_well", part=part, scripts=scripts) for scripts in BOTH]

    assert all("Relay" in each["stations"] for each in said)


async def test_which_partition_lags_is_seen(office: Office) -> None:
    async with stopped(office.stack, "projectors"), clients(office.stack) as api:
        await _register(api, 8)
        said = [
            await office.operator.do("see_which_partition_lags", projection="users", scripts=scripts)
            for scripts in BOTH
        ]

    for each in said:
        assert len(each) == 12
        assert sum(map(int, each.values())) >= 8


async def _register(api: Clients, number: int) -> None:
    """Some people more, whose events are on Kafka."""
    before = await api.position()
    for each in range(100, 100 + number):
        await api.register(each)
    answer = await api.http.get(
        f"{api.events_url}/events",
        params={"after": before, "limit": number},
        headers={"Accept": "application/json", "Prefer": "wait=30"},
    )
    assert answer.json()["data"]


async def test_events_are_watched_live_filtered_and_paused(office: Office) -> None:
    said = await office.operator.do("watch_events", **office.apis)

    assert said["paused"].startswith("Paused")
    assert said["still"] == said["first"], "nothing moves while it is paused"
    assert said["kinds"] == ["Registered"]


async def test_events_are_read_and_filtered_without_scripts(office: Office) -> None:
    said = await office.operator.do("read_events", **office.apis, scripts=False)

    assert said["kinds"] == ["Registered"]


@pytest.fixture(scope="module")
def parked(office: Office) -> None:
    """A record that no projection can read."""
    asyncio.run(park(office.stack))


@pytest.mark.parametrize(("projection", "scripts"), [("signups", True), ("timeline", False)])
async def test_a_parked_record_is_looked_at_retried_and_discarded(
    office: Office, parked: None, projection: str, scripts: bool
) -> None:
    said = await office.operator.do("deal_with_a_parked_record", projection=projection, scripts=scripts)

    assert "no muster.user.registered.v1" in said["why"]
    assert "1 of the same user waits behind it" in said["waits"]
    assert "<script>alert(1)</script>" in said["bytes"]
    assert "0 applied, 0 discarded" in said["retried"]
    assert "Nothing has been done yet" in said["preview"]
    assert "1 discarded" in said["discarded"]


@pytest.mark.parametrize(("projection", "scripts"), [("timeline", True), ("signups", False)])
async def test_a_projection_is_rebuilt_switched_rolled_back_and_retired(
    office: Office, projection: str, scripts: bool
) -> None:
    said = await office.operator.do("rebuild", projection=projection, scripts=scripts, expected=("status of 409",))

    assert said["begun"] == "The rebuild has begun. It goes on without this page."
    assert "Generation 2 has caught up" in said["compared"]
    assert said["serves"].startswith("2")
    assert said["rolled_back"].startswith("1")
    assert said["left"] == "1"


@pytest.mark.parametrize(
    ("scripts", "late", "removed"),
    [(True, "data-warehouse, mailer", "data-warehouse"), (False, "mailer", "mailer")],
)
async def test_who_lags_and_who_has_not_forgotten_an_erased_person_is_seen(
    office: Office, scripts: bool, late: str, removed: str
) -> None:
    said = await office.operator.do(
        "see_who_has_not_forgotten", erased=office.filled.erased, removed=removed, scripts=scripts
    )

    assert said["headline"] == "1 erased person is not forgotten by everybody"
    assert any(each.startswith("mailer") for each in said["late"])
    assert not any(each.startswith("search-index") for each in said["late"])
    assert said["receipt"] == f"Not read by {late}"
    assert said["jws"].count(".") == 2
    assert said["removed"] == "Receipts do not name it any more."


@pytest.mark.parametrize(("name", "scripts"), [(WIDE, True), (WIDER, False)], ids=["scripts", "no-scripts"])
async def test_somebody_is_erased_by_keyboard_alone_with_the_name_typed(
    office: Office, name: str, scripts: bool
) -> None:
    said = await office.operator.do("erase_by_keyboard", name=name, scripts=scripts)

    assert said["erased"] == "Erased"


@both
async def test_it_works_on_a_phone_and_by_keyboard_alone(office: Office, scripts: bool) -> None:
    said = await office.operator.do("by_keyboard_on_a_phone", scripts=scripts)

    assert said["skip"] == "To the content"
    assert any("Registered" in each for each in said["events"])
    assert not said["wide"]
    assert said["columns"] == {
        "/users": ["Username", "Address", "Status"],
        "/events": ["When", "What"],
        "/operations": ["When", "Who", "What"],
    }


@both
async def test_what_operators_did_is_seen(office: Office, scripts: bool) -> None:
    said = await office.operator.do("see_what_operators_did", scripts=scripts)

    assert {"operator"} == {deed[1] for deed in said["deeds"]}
    assert {
        *("correct address", "reveal a parked record", "retry parked records", "discard a parked record"),
        "remove a subscriber",
    } <= {deed[2] for deed in said["deeds"]}
    assert {"done"} == {deed[4] for deed in said["deeds"] if deed[2] != "retire"}


async def test_a_person_authorizes_and_tries_both_apis_out_and_nothing_comes_from_elsewhere(office: Office) -> None:
    stack = office.stack
    token = stack.bearer["Authorization"].removeprefix("Bearer ")
    said = await office.operator.do(
        "try_the_documentation", command=stack.command_url, query=stack.query_url, token=token
    )

    assert (said["registered"], said["listed"]) == ("201", "200")
    assert {f"http://{host}" for host in said["asked"]} == {stack.command_url, stack.query_url}
