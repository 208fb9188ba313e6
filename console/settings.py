"""The settings of the console: whose tokens open it, where the APIs are, and what an operator's commands read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from chassis.access.settings import AccessSettings
from chassis.settings import HostNames, HttpUrl, OperatorCommandPostgres, PostgresAddress
from console.sign_in.settings import ConsoleAddress, ConsoleIssuer, ConsoleSecrets
from outbox.settings import RelayAddress
from projectors.settings import OperatorProjectorSettings


class ConsoleSettings(
    OperatorCommandPostgres,
    OperatorProjectorSettings,
    RelayAddress,
    AccessSettings,
    HostNames,
    ConsoleAddress,
    ConsoleSecrets,
    ConsoleIssuer,
):
    """The console's variables."""

    console_host: str = Field("127.0.0.1", validation_alias="CONSOLE_HOST", min_length=1, examples=["127.0.0.1"])
    console_port: int = Field(8004, ge=1, le=65535, validation_alias="CONSOLE_PORT", examples=[8004])
    #: Health with its reasons, and metrics, without a token: for the inside alone.
    console_ops_host: str = Field("127.0.0.1", validation_alias="CONSOLE_OPS_HOST", examples=["127.0.0.1"])
    console_ops_port: int = Field(8009, ge=1, le=65535, validation_alias="CONSOLE_OPS_PORT", examples=[8009])
    # No address has a default: an operator's token is not sent to whoever happens to listen there.
    console_command_url: HttpUrl = Field(validation_alias="CONSOLE_COMMAND_URL", examples=["http://127.0.0.1:8000"])
    console_query_url: HttpUrl = Field(validation_alias="CONSOLE_QUERY_URL", examples=["http://127.0.0.1:8001"])
    console_events_url: HttpUrl = Field(validation_alias="CONSOLE_EVENTS_URL", examples=["http://127.0.0.1:8005"])

    # The inner ports of the APIs, for the overview; no token is sent there.
    console_command_ops_url: HttpUrl = Field(
        "http://127.0.0.1:8010", validation_alias="CONSOLE_COMMAND_OPS_URL", examples=["http://127.0.0.1:8010"]
    )
    console_query_ops_url: HttpUrl = Field(
        "http://127.0.0.1:8011", validation_alias="CONSOLE_QUERY_OPS_URL", examples=["http://127.0.0.1:8011"]
    )
    console_events_ops_url: HttpUrl = Field(
        "http://127.0.0.1:8012", validation_alias="CONSOLE_EVENTS_OPS_URL", examples=["http://127.0.0.1:8012"]
    )

    #: People look at it; one process serves hundreds, and keeps the last hour in memory.
    workers: ClassVar[int] = 1
    #: Python's own: uvloop's would take 2 MB, and nobody would see that it is quicker.
    event_loop: ClassVar[Literal["asyncio"]] = "asyncio"

    @property
    def api_addresses(self) -> Sequence[str]:
        """Where the APIs are asked, by both ports of each."""
        public = self.console_command_url, self.console_query_url, self.console_events_url
        return *public, self.console_command_ops_url, self.console_query_ops_url, self.console_events_ops_url

    @property
    def command_side(self) -> PostgresAddress:
        """The command database, by few connections."""
        return _few(self.command_database)

    @property
    def query_side(self) -> PostgresAddress:
        """The query database, by few connections."""
        return _few(self.query_database)


def _few(address: PostgresAddress) -> PostgresAddress:
    """People are few, and one poll serves them all; what is more would only idle in the server."""
    return replace(address, pool_size=2, max_overflow=4)
