"""POST /users/search: the list of users, its parameters in a JSON body, for those who keep addresses out of URLs."""

from __future__ import annotations

from typing import Any, ClassVar

from starlette.requests import Request

from chassis.http.api import read_json_body
from chassis.http.negotiation import require_media_type
from chassis.http.problems import FieldError, invalid, json_pointer
from query_api.protocol.exchange import JSON_MEDIA_TYPE, QueryAnswer, QueryExchange
from query_api.protocol.parameters import Parameter, Parameters
from query_api.users.listing import UserList
from read_model import users


class UserSearch:
    """The list of users once more: the same pages, the same cursors."""

    path: ClassVar = "/users/search"
    method: ClassVar = "POST"
    projection: ClassVar = users.SCHEMA.name
    #: Parameters of the query string; those of the body are the list's.
    parameters: ClassVar = Parameters(())

    def __init__(self, listing: UserList) -> None:
        """Pages are `listing`'s."""
        self._listing = listing

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """The page, as GET /users answers it; its Link leads there, with a cursor that nobody can read."""
        exchange.require_acceptable()
        self.parameters.read(exchange.query)
        require_media_type(Request(exchange.scope), (JSON_MEDIA_TYPE,))
        values = read_members(await exchange.body(), UserList.parameters)
        return await self._listing.answer_values(exchange, values)


def read_members(body: bytes, known: Parameters) -> dict[str, Any]:
    """The values of the parameters that are members of a JSON object, by name.

    Raises:
        Problem: 400, it is no JSON in UTF-8; 422 that lists every mistake, each with its pointer.
    """
    document = read_json_body(body)
    if not isinstance(document, dict):
        raise invalid([{"detail": "must be a JSON object", "pointer": "#"}])
    errors: list[FieldError] = []
    values: dict[str, Any] = {}
    for name, value in document.items():
        try:
            values[name] = _read_member(known, name, value)
        except ValueError as error:
            errors.append({"detail": str(error), "pointer": json_pointer([name])})
    if errors:
        raise invalid(errors)
    return values


def _read_member(known: Parameters, name: str, value: Any) -> Any:
    parameter = known.by_name.get(name)
    if parameter is None:
        raise ValueError(f"is not a known member; this route takes: {', '.join(sorted(known.by_name))}")
    if parameter.most == 1:
        return parameter.read(_text(parameter, value))
    if not isinstance(value, list) or not 1 <= len(value) <= parameter.most:
        raise ValueError(f"must be a list of 1 to {parameter.most}")
    return [parameter.read(_text(parameter, each)) for each in value]


def _text(parameter: Parameter, value: Any) -> str:
    """The value as the query string would have it; its JSON type is that of the parameter's schema."""
    type_ = parameter.schema["type"]
    if type_ == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")
        return str(value)
    if type_ == "boolean":
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return "true" if value else "false"
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - it becomes the client's error
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be Unicode text")
    return value
