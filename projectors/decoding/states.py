"""The public document of a subject as msgspec reads it: derived from its model, so that nobody keeps a second list.

msgspec reads a document in a fraction of the time that the model takes, but knows less of it: ids and times are texts
to it, and free-form JSON is bytes. Those fields are named here, and a slice (projectors/decoding/slices.py) looks at
them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class DocumentStruct:
    """The struct of a document, and which of its fields are more than the struct says."""

    struct: type[msgspec.Struct]
    ids: tuple[str, ...]
    times: tuple[str, ...]
    #: A check, for each field that the struct keeps as raw JSON, that its bytes are as the model would write them.
    free: dict[str, Callable[[bytes], bool]]


@cache
def state_of(model: type[BaseModel]) -> DocumentStruct:
    """Derive the struct, field by field, in the model's order.

    Raises:
        TypeError: a field has a limit that msgspec would not know of; the message names it.
    """
    types = {name: _types(field) for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        # The version is that of the headers, or the record is refused.
        if types[name] <= _ALIKE and field.metadata and name != "version":
            raise TypeError(f"{model.__name__}.{name} has limits, which {__name__} cannot keep: {field.metadata}")
    return DocumentStruct(
        msgspec.defstruct(
            model.__name__,
            [_declared(name, field) for name, field in model.model_fields.items()],
            gc=False,
            # A field that came later is absent from older documents, and from those in which it is not set.
            omit_defaults=True,
            kw_only=True,
        ),
        tuple(name for name in types if UUID in types[name]),
        tuple(name for name in types if datetime in types[name]),
        {name: _as_written(field) for name, field in model.model_fields.items() if _as_json(field) is msgspec.Raw},
    )


#: Types that msgspec reads and writes as pydantic does.
_ALIKE = frozenset({bool, int, str, Literal, NoneType})
_TEXTS = frozenset({UUID, datetime})
#: Types that are made here cannot be written, and no checker can know them.
_ANNOTATED: Any = Annotated


def _declared(name: str, field: FieldInfo) -> tuple[Any, ...]:
    return (name, _as_json(field)) if field.is_required() else (name, _as_json(field), field.default)


def _as_json(field: FieldInfo) -> Any:
    if not _types(field) <= _ALIKE | _TEXTS:
        return msgspec.Raw
    return Union[tuple(str if part in _TEXTS else part for part in _parts(field))]  # noqa: UP007 - of many


def _types(field: FieldInfo) -> set[Any]:
    return {get_origin(part) or part for part in _parts(field)}


def _parts(field: FieldInfo) -> tuple[Any, ...]:
    """The members of a union, or the type itself; a time without its serializer."""
    annotation = field.annotation
    parts = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return tuple(datetime if get_args(part)[:1] == (datetime,) else part for part in parts)


def _as_written(field: FieldInfo) -> Callable[[bytes], bool]:
    # It is as deep here as in a record's value: how deep JSON may be is then the same for slices and for the catalogue.
    annotated: Any = _ANNOTATED[(field.annotation, *field.metadata, None)]
    adapter: TypeAdapter[Any] = TypeAdapter(list[list[annotated]])
    validate_json, to_json = adapter.validator.validate_json, adapter.serializer.to_json

    def is_as_written(text: bytes) -> bool:
        nested = b"[[%b]]" % text
        return to_json(validate_json(nested)) == nested

    return is_as_written
