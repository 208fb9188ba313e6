"""The struct of a public document is its model's, field by field; nobody keeps a second list."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field, JsonValue

from events.times import Time
from events.user_events import PublicUser
from projectors.decoding.states import state_of


class Document(BaseModel):
    """Fields of every kind."""

    id: UUID
    version: int = Field(ge=1)
    text: str | None
    lead: UUID | None
    at: Time | None
    tags: list[str]
    labels: dict[str, JsonValue] | None


def test_the_fields_are_those_of_the_model_in_its_order() -> None:
    for model in (PublicUser, Document):
        assert state_of(model).struct.__struct_fields__ == tuple(model.model_fields)


def test_fields_of_which_msgspec_knows_less_are_named() -> None:
    state = state_of(Document)
    assert (state.ids, state.times, set(state.free)) == (("id", "lead"), ("at",), {"tags", "labels"})
    users = state_of(PublicUser)
    assert (users.ids, users.times, set(users.free)) == (("id",), ("created_at", "updated_at"), {"attributes"})


@pytest.mark.parametrize(
    ("name", "text", "as_written"),
    [("tags", b'["a"]', True), ("tags", b'["a" ]', False), ("labels", b"null", True), ("labels", b'{"a":NaN}', False)],
)
def test_free_json_is_judged_by_the_model(name: str, text: bytes, *, as_written: bool) -> None:
    assert state_of(Document).free[name](text) is as_written


@pytest.mark.parametrize("limited", [Annotated[str, Field(max_length=3)], Annotated[int, Field(ge=0)]])
def test_a_field_with_limits_is_refused_by_name(limited: Any) -> None:
    model = type("Limited", (BaseModel,), {"__annotations__": {"id": UUID, "at": datetime, "size": limited}})
    with pytest.raises(TypeError, match=r"Limited\.size has limits"):
        state_of(model)


class Later(Document):
    """The document once a field was added to it, which is absent where it is not set."""

    locale: str | None = Field(default=None, exclude_if=lambda locale: locale is None)


def test_a_field_that_came_later_may_be_absent_and_is_read_where_it_is_set() -> None:
    struct = state_of(Later).struct
    old = Document.model_validate({"id": UUID(int=7), "version": 1, "text": None, "lead": None, "at": None, "tags": [],
                                   "labels": None}).model_dump_json().encode()  # fmt: skip
    new = old[:-1] + b',"locale":"en"}'

    for document, locale in ((old, None), (new, "en")):
        state: Any = msgspec.json.decode(document, type=struct)
        assert state.locale == locale
        assert msgspec.json.encode(state) == document
