"""Where a command of ours that speaks HTTP finds the APIs: it is told, or a local stack runs here."""

from __future__ import annotations

import httpx
from pydantic import Field, field_validator

from chassis.settings import Settings


class CommandApiAddress(Settings):
    """The address of the command API. It has no default: nothing is sent to whoever happens to listen there."""

    public_command_url: str = Field(validation_alias="PUBLIC_COMMAND_URL", examples=["http://127.0.0.1:8000"])

    @field_validator("public_command_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)


class QueryApiAddress(Settings):
    """The address of the query API, for which the same holds."""

    public_query_url: str = Field(validation_alias="PUBLIC_QUERY_URL", examples=["http://127.0.0.1:8001"])

    @field_validator("public_query_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return http_url(value)


def http_url(text: str) -> str:
    """An HTTP address, without a slash at its end; another text would be tried for a minute otherwise.

    Raises:
        ValueError: it is none.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("is no http or https URL, such as http://127.0.0.1:8000")
    return text.rstrip("/")
