"""The addresses of APIs for a command of ours that speaks HTTP: it is told, or a local stack runs here."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import HttpUrl, Settings


class CommandApiAddress(Settings):
    """The address of the command API. It has no default: nothing is sent to whoever happens to listen there."""

    public_command_url: HttpUrl = Field(validation_alias="PUBLIC_COMMAND_URL", examples=["http://127.0.0.1:8000"])


class QueryApiAddress(Settings):
    """The address of the query API, for which the same holds."""

    public_query_url: HttpUrl = Field(validation_alias="PUBLIC_QUERY_URL", examples=["http://127.0.0.1:8001"])


class EventApiAddress(Settings):
    """The address of the event API, for which the same holds."""

    public_events_url: HttpUrl = Field(validation_alias="PUBLIC_EVENTS_URL", examples=["http://127.0.0.1:8005"])
