"""A planted second version of an event, as docs/how-to/change-an-event.md has people make one."""

from typing import Any, ClassVar, get_args

from events.catalogue import Catalogue
from events.user_events import ChangeEvent, UserEmailChanged, UserErased, UserEventData, UserSnapshot


class EmailChanged2(UserEventData):
    """It says how the address was proven, and needs it."""

    name: ClassVar[str] = "muster.user.email_changed"
    version: ClassVar[int] = 2
    proof: str


def planted(*classes: type[Any]) -> Catalogue[Any, Any]:
    """The catalogue with these classes of a change of the address, and the upcaster."""
    others = [each for each in get_args(ChangeEvent) if each is not UserEmailChanged]
    return Catalogue(
        subject="user",
        source="/muster/users",
        classes=(*others, UserSnapshot, *classes),
        tombstone=UserErased,
        upcasters={("muster.user.email_changed", 1): lambda data: {**data, "proof": "none"}},
    )
