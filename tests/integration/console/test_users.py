"""Users in the console: found, masked until asked for, changed by the APIs with the operator's token, and recorded."""

from uuid import UUID

from events.user_events import UserDeactivated
from tests.integration.console.conftest import Browser, Console
from tests.integration.query_api.read_side import ReadSide, person

#: What browsers would run, or a careless page would take apart.
NAUGHTY = "<script>alert(1)</script>\"'&{{7*7}}"


async def operations(browser: Browser) -> str:
    return (await browser.get("/operations")).text


async def test_a_user_is_found_by_id_and_by_how_a_name_or_an_address_begins(desk: Console, read_side: ReadSide) -> None:
    ada = person(1, username="Ada", email="countess@example.com")
    await read_side.register(ada, person(2, username="Bob", email="adam@example.com"), person(3))
    async with desk.signed_in() as browser:
        found = {
            text: (await browser.send("/users", text=text, status="")).text
            for text in (str(ada.id), "ADA", "countess@", "nobody")
        }
        addresses = [str(answer.url) for answer in (await browser.send("/users", text="countess@")).history]

    assert str(ada.id) in found[str(ada.id)]
    assert found["ADA"].count("/users/0") == 2, "by a username, and by an address"
    assert str(ada.id) in found["countess@"]
    assert "/users/0" not in found["nobody"]
    assert not any("countess" in address for address in addresses)


async def test_what_no_name_can_begin_with_finds_nobody(desk: Console, read_side: ReadSide) -> None:
    await read_side.register(person(1, username="Ada"))
    async with desk.signed_in() as browser:
        answers = [await browser.send("/users", text=text, status="") for text in ("Ada Lovelace", "a" * 60, "x y@")]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert all("Nobody." in answer.text and "/users/0" not in answer.text for answer in answers)


async def test_personal_data_is_masked_until_asked_for_and_asking_is_recorded(
    desk: Console, read_side: ReadSide
) -> None:
    ada = person(1, username="Ada", email="ada@example.com")
    await read_side.register(ada)
    await read_side.apply(UserDeactivated(user=ada.model_copy(update={"version": 2}), reason="Ada is ill"))
    async with desk.signed_in(subject="eve") as browser:
        masked = [(await browser.get(path)).text for path in ("/users", f"/users/{ada.id}")]
        await browser.send("/users/reveal", ids=str(ada.id), back="/users")
        clear = [(await browser.get(path)).text for path in ("/users", f"/users/{ada.id}")]
        recorded = await operations(browser)
        async with desk.signed_in() as other:
            others = (await other.get("/users")).text

    for text in (*masked, others):
        assert "ada@example.com" not in text
        assert "Ada" not in text
    assert "Reason: <bdi>A•••</bdi>" in masked[1]
    assert all("ada@example.com" in text for text in clear)
    assert "Reason: <bdi>Ada is ill</bdi>" in clear[1]
    assert "reveal" in recorded
    assert "eve" in recorded
    assert str(ada.id) in recorded


async def test_leads_back_to_no_page_but_our_own(desk: Console, read_side: ReadSide) -> None:
    ada = person(1)
    await read_side.register(ada)
    async with desk.signed_in() as browser:
        answer = await browser.send("/users/reveal", ids=str(ada.id), back="//evil.example/users")

    assert answer.url.path == "/users"
    assert answer.url.host == "localhost"


async def test_the_pages_of_a_long_list_follow_each_other(desk: Console, read_side: ReadSide) -> None:
    people = [person(number) for number in range(30)]
    await read_side.register(*people)
    async with desk.signed_in() as browser:
        first = (await browser.get("/users")).text
        following = first.split('class="next" href="')[1].split('"')[0].replace("&amp;", "&")
        second = (await browser.get(following)).text

    for user in people:
        assert (f'/users/{user.id}"' in first) != (f'/users/{user.id}"' in second)


async def registered(desk: Console, read_side: ReadSide, **fields: str) -> UUID:
    """A user whom both sides have."""
    api = desk.app.state.apis._command
    body = {"email": "ada@example.com", "username": "Ada", "password": "correct horse", **fields}
    user = (await api.post("/users", json=body)).json()
    await read_side.register(person(1, **{key: value for key, value in user.items() if key != "version"}))
    return UUID(user["id"])


async def test_changes_go_through_the_command_api_with_the_operators_token(desk: Console, read_side: ReadSide) -> None:
    ada = await registered(desk, read_side)
    page = f"/users/{ada}"
    async with desk.signed_in(subject="eve") as browser:
        late = await browser.send(f"{page}/deactivate", page=page, reason="left")
        await browser.send(f"{page}/reactivate", page=page)
        await browser.send(f"{page}/email", page=page, email="countess@example.com")
        reset = await browser.send(f"{page}/reset", page=page)
        recorded = await operations(browser)
    rows = await read_side.connection.fetch("SELECT actor, deed, outcome FROM console_operations ORDER BY id")

    assert "is as it was before" in late.text, "the read side here has nobody who follows"
    assert "A token for a new password" in reset.text
    assert [tuple(row) for row in rows] == [
        ("eve", deed, "done") for deed in ("deactivate", "reactivate", "correct address", "issue a token for a reset")
    ]
    assert "countess" not in recorded


async def test_a_refusal_is_told_and_recorded(desk: Console, read_side: ReadSide) -> None:
    ada = await registered(desk, read_side)
    await registered(desk, read_side, email="bob@example.com", username="Bob")
    async with desk.signed_in() as browser:
        answer = await browser.send(f"/users/{ada}/email", page=f"/users/{ada}", email="bob@example.com")
        recorded = await operations(browser)

    assert answer.status_code == 409
    assert "is taken" in answer.text
    assert "refused: The e-mail address is taken (409)" in recorded


async def test_nobody_is_erased_without_their_name_typed(desk: Console, read_side: ReadSide) -> None:
    ada = await registered(desk, read_side)
    page = f"/users/{ada}"
    async with desk.signed_in() as browser:
        masked = (await browser.get(page)).text
        wrong = await browser.send(f"{page}/erase", page=page, username="ada")
        erased = await browser.send(f"{page}/erase", page=page, username="Ada")

    assert "Show the personal data first" in masked
    assert wrong.status_code == 422
    assert "Nothing was erased" in wrong.text
    assert erased.status_code in {200, 404}
    [row] = await read_side.connection.fetch("SELECT deed, outcome FROM console_operations WHERE deed = 'erase'")
    assert tuple(row) == ("erase", "done")


async def test_whatever_a_user_wrote_is_shown_as_they_wrote_it(desk: Console, read_side: ReadSide) -> None:
    ada = person(1, username="Ada", display_name=NAUGHTY, attributes={NAUGHTY: NAUGHTY})
    await read_side.register(ada)
    async with desk.signed_in() as browser:
        await browser.send(f"/users/{ada.id}/reveal", page=f"/users/{ada.id}")
        page = (await browser.get(f"/users/{ada.id}")).text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;{{7*7}}" in page


async def test_nothing_is_done_that_cannot_be_recorded(desk: Console, read_side: ReadSide) -> None:
    ada = await registered(desk, read_side)
    await read_side.connection.execute("ALTER TABLE console_operations RENAME TO gone")
    async with desk.signed_in() as browser:
        answer = await browser.send(f"/users/{ada}/deactivate", page=f"/users/{ada}")
    user = await desk.app.state.apis._command.post(f"/users/{ada}/reactivate", json={})

    assert answer.status_code == 500
    assert user.json()["version"] == 1, "nothing was changed"
