"""Changes planted in the classes themselves, through the whole gate: a breaking one is a sentence, and no traceback."""

from collections.abc import Collection
from datetime import date
from typing import Annotated, Any, Final, Literal, get_args

import pytest
from pydantic import BaseModel, Field, create_model

from contract.corpus import read_corpus
from contract.gate import CORPUS, broken, promise_of
from events.catalogue import Catalogue, EventData
from events.user_events import USER_EVENTS, ChangeEvent, PublicUser, UserDeactivated, UserErased, UserSnapshot

TODAY: Final = date(2026, 12, 1)
TYPE: Final = UserDeactivated.type()
RELEASED: Final = promise_of(USER_EVENTS)
RECORDS: Final = read_corpus(CORPUS)


def _fields(model: type[BaseModel], without: Collection[str], changed: dict[str, Any]) -> dict[str, Any]:
    kept = {name: (field.annotation, field) for name, field in model.model_fields.items() if name not in without}
    return {**kept, **{name: what if isinstance(what, tuple) else (what, ...) for name, what in changed.items()}}


def _user(*without: str, **changed: Any) -> type[BaseModel]:
    """The public user, without these fields and with others."""
    fields = _fields(PublicUser, without, changed)
    return create_model("PublicUser", __config__=PublicUser.model_config, **fields)


def _event(*without: str, **changed: Any) -> type[EventData]:
    """The event of a deactivation, without these fields and with others."""
    event = create_model("UserDeactivated", __base__=EventData, **_fields(UserDeactivated, without, changed))
    event.name = UserDeactivated.name
    return event


def _said(planted: type[EventData]) -> list[str]:
    others = [each for each in get_args(ChangeEvent) if each is not UserDeactivated]
    catalogue = Catalogue[Any, Any](
        subject="user", source="/muster/users", classes=(*others, planted, UserSnapshot), tombstone=UserErased
    )
    return list(broken(RELEASED, catalogue, RECORDS, sunsets={}, today=TODAY))


#: The class, what is said of its schema, and whether records of the corpus are refused as well.
BREAKING: Final[dict[str, tuple[type[EventData], str, bool]]] = {
    "field removed": (_event(user=_user("email")), ".email: it was removed", True),
    "field renamed": (_event(user=_user("email", mail=str)), "it was renamed to mail", True),
    "reason removed": (_event("reason"), ".reason: it was removed", True),
    "new required field of the user": (_event(user=_user(phone=str)), ".phone: the new field is required", True),
    "new required field of the event": (_event(source=str), ".source: the new field is required", True),
    "optional becomes required": (_event(reason=str), ".reason: it is required now", True),
    "address becomes number": (_event(user=_user(email=int)), ".email: it may be integer now", True),
    "truth becomes text": (_event(user=_user(is_active=str)), ".is_active: it may be string now", True),
    "null no more": (_event(user=_user(display_name=str)), ".display_name: it may not be null any more", True),
    "null allowed": (_event(user=_user(email=str | None)), ".email: it may be null now", False),
    "value removed": (_event(user=_user(status=Literal["active", "gone"])), ".status: it loses deactivated", True),
    "limit added": (_event(user=_user(email=Annotated[str, Field(max_length=5)])), "its maxLength is 5 now", True),
    "minimum raised": (_event(user=_user(version=Annotated[int, Field(ge=1000)])), "its minimum was 1", True),
    "pattern added": (_event(user=_user(username=Annotated[str, Field(pattern="^-$")])), "its pattern was none", True),
    "values narrowed": (_event(user=_user(attributes=dict[str, int])), ".attributes.*: it may not be anything", True),
    "time becomes day": (_event(user=_user(created_at=date)), "its format was", True),
}

ALLOWED: Final[dict[str, type[EventData]]] = {
    "optional field of the user": _event(
        user=_user(phone=(str | None, Field(default=None, exclude_if=lambda value: value is None)))
    ),
    "optional field of the event": _event(
        source=(str | None, Field(default=None, exclude_if=lambda value: value is None))
    ),
    "status added": _event(user=_user(status=Literal["active", "deactivated", "suspended"])),
    "nothing": _event(),
}


@pytest.mark.parametrize(("planted", "sentence", "refuses"), BREAKING.values(), ids=BREAKING)
def test_a_class_that_breaks_subscribers_is_told_in_sentences(
    planted: type[EventData], sentence: str, *, refuses: bool
) -> None:
    said = _said(planted)

    assert any(each.startswith(TYPE) and sentence in each for each in said), said
    assert all(each.startswith(TYPE) for each in said), said
    assert any("cannot read it" in each for each in said) is refuses, said


@pytest.mark.parametrize("planted", ALLOWED.values(), ids=ALLOWED)
def test_a_class_that_breaks_nobody_passes(planted: type[EventData]) -> None:
    assert _said(planted) == []
