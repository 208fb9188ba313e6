"""The JSON Schemas of the events, at the addresses that their envelopes name (`ce_dataschema`).

They are those of the classes, opened: a subscriber that validates with them takes what Muster may add later, as the
contract promises. Unknown fields are not refused, and an open enumeration lists its values as `x-extensible-enum`.
"""

from __future__ import annotations

from typing import Any, Final

from .catalogue import Catalogue
from .envelope import data_schema

_DIALECT: Final = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
#: Members whose values are an open enumeration; `ce_type` is the other one.
OPEN_ENUMERATIONS: Final = frozenset(("status",))


def event_schemas(catalogue: Catalogue[Any, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each type's data, the tombstone's last."""
    schemas = {type_: opened(each.model_json_schema(mode="serialization")) for type_, each in catalogue.classes.items()}
    schemas[catalogue.tombstone_type] = {
        "title": catalogue.tombstone.__name__,
        "description": "A tombstone.",
        "type": "null",
    }
    return {type_: {**_DIALECT, "$id": data_schema(type_), **schema} for type_, schema in schemas.items()}


def opened(schema: Any) -> Any:
    """The same schema, which takes unknown members and unknown values of open enumerations."""
    match schema:
        case dict():
            kept = [item for item in schema.items() if item != ("additionalProperties", False)]
            found = {name: opened(part) for name, part in kept}
            for name in OPEN_ENUMERATIONS & found.get("properties", {}).keys():
                member = found["properties"][name]
                if "enum" in member:
                    member["x-extensible-enum"] = member.pop("enum")
            return found
        case list():
            return [opened(part) for part in schema]
        case _:
            return schema
