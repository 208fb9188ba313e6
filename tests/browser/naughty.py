"""Puts naughty strings into whatever a user, a service or a record can fill, and says where each must be seen."""

import json
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final

from chassis.settings import Kafka
from console.parked.contents import SHOWN_BYTES, as_text
from events.user_events import UserRegistered
from tests.browser.filling import SECONDS, TOPIC, Clients
from tests.hostile.sets import naughty_strings
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until

Way = tuple[str, ...]

STRINGS: Final = naughty_strings()
#: Those with the most markup, for fields that hold one string each.
MARKUP: Final = sorted(STRINGS, key=lambda text: -sum(map(text.count, "<>\\\"'&{}`")))[:30]
#: A page of a timeline has 20 entries: so many that are deactivated and made active again.
REASONS: Final = MARKUP[:10]
#: A display name has no more characters.
_LONGEST_NAME: Final = 200
#: Attributes have 16 KiB at most, and so two of each.
_AT_ONCE: Final = 100


@dataclass
class Planted:
    """Where strings are now, by the way to a page: its path, and what is pressed there."""

    #: The texts that a page must show to the letter.
    texts: dict[Way, list[str]] = field(default_factory=dict)
    #: The attributes that it must show.
    attributes: dict[Way, dict[str, str]] = field(default_factory=dict)
    #: The usernames in the list of users.
    usernames: list[str] = field(default_factory=list)


async def plant(api: Clients) -> Planted:
    """Put them everywhere."""
    planted = Planted()
    planted.usernames = await _in_usernames(api)
    for begin in range(0, len(STRINGS), _AT_ONCE):
        attributes = {text: text for text in STRINGS[begin : begin + _AT_ONCE] if text}
        user = await _register(api, f"attributes-{begin}", attributes)
        planted.attributes[f"/users/{user}", "Show it"] = attributes
    planted.texts |= await _in_a_timeline(api)
    planted.texts |= await _in_groups(api)
    planted.texts |= await _in_records(api)
    return planted


async def _register(api: Clients, name: str, attributes: dict[str, str] | None = None) -> str:
    body: dict[str, Any] = {"email": f"{name}@example.com", "username": name, "password": "correct horse battery"}
    user = str((await api.command("POST", "/users", body | {"attributes": attributes or {}})).json()["id"])
    await api.visible(user)
    return user


async def _in_usernames(api: Clients) -> list[str]:
    """Users who have them for names, as far as names may be so; their addresses have what addresses may."""
    lines = [
        json.dumps({"email": f"{{{{7*7}}}}'&{number}@example.com", "username": text, "password_hash": None})
        for number, text in enumerate(STRINGS)
    ]
    answer = await api.http.post(
        f"{api.stack.command_url}/users/import",
        content="\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    said = [json.loads(line) for line in answer.raise_for_status().text.splitlines()]
    made = [each for each in said if each.get("status") == "created"]
    await api.visible(made[-1]["id"])
    return [unicodedata.normalize("NFC", STRINGS[each["line"] - 1]) for each in made]


async def _in_a_timeline(api: Clients) -> dict[Way, list[str]]:
    """Display names and reasons, and so what changed and why."""
    path, names = f"/users/{await _register(api, 'timeline')}", [text[:_LONGEST_NAME] for text in MARKUP]
    for name in names:
        await api.command("PATCH", f"{path}/profile", {"display_name": name})
    for reason in REASONS:
        await api.command("POST", f"{path}/deactivate", {"reason": reason})
        await api.command("POST", f"{path}/reactivate", {"reason": reason})
    return {
        (path, "Show it"): [names[-1], *REASONS],
        (path, "Further back"): names[10:],
        (path, "Further back", "Further back"): names[:10],
    }


async def _in_groups(api: Clients) -> dict[Way, list[str]]:
    """The consumer groups of services."""
    for number, text in enumerate(REASONS):
        answer = await api.http.post(f"{api.events_url}/subscribers", json={"name": f"naughty-{number}", "group": text})
        answer.raise_for_status()
    return {("/subscribers",): REASONS}


async def _in_records(api: Clients) -> dict[Way, list[str]]:
    """Key, headers and value of records on the topic: one of ours that is damaged, and one of a stranger's."""
    value = "\n".join(STRINGS).encode()
    headers = [(text, text.encode()) for text in MARKUP]
    ours = record(UserRegistered(user=new_user(77)))
    records = [FakeRecord(ours.key, value, [*ours.headers, *headers]), FakeRecord(MARKUP[0].encode(), value, headers)]
    kafka = Kafka(_env_file=None, **api.stack.environment())  # type: ignore[arg-type] # by their variables' names
    async with Publisher.open(kafka, TOPIC) as publisher:
        await publisher.publish(records)

    async def parked() -> list[str]:
        listed = json.loads((await api.stack.muster("parked", "list", "--json"))[1])
        found = [each["id"] for each in listed if each["id"].startswith("users/") and each["bytes"] >= len(value)]
        return found if len(found) >= len(records) else []

    shown: dict[Way, list[str]] = {}
    for id_ in await until(parked, within=SECONDS, what="the parked records"):
        shown[f"/parked/{id_}", "Show them"] = [*MARKUP, as_text(value[:SHOWN_BYTES])]
        shown[f"/parked/{id_}", "See what a discard would do"] = []
    return shown
