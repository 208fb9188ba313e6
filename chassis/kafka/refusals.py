"""Refusals of brokers: to let somebody in, or a right. Neither is an outage, and neither passes by itself.

aiokafka tells the first only in its own log, and the second in words that name no way out. Here both become a sentence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from chassis.lifecycle import wait_at_most
from chassis.outages import describe


class KafkaRefusedError(PermissionError):
    """The brokers do not let this process in; the message says why and which settings to look at."""


#: Errors that say a right is missing.
RIGHTS_ERRORS: Final[tuple[type[Exception], ...]] = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
REFUSALS: Final[tuple[type[Exception], ...]] = (KafkaRefusedError, *RIGHTS_ERRORS)

#: A client that is no longer wanted while it starts may come to its end for so long.
ENDING_SECONDS: Final = 1.0


async def start_client(client: Any, arguments: Mapping[str, Any], seconds: float) -> None:
    """Start a client that was made of these arguments (`client_arguments`); its caller stops it whatever happens.

    Raises:
        KafkaRefusedError: the brokers do not let us in.
        KafkaError, OSError, TimeoutError: no broker answered in time.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await wait_at_most(asyncio.shield(starting), seconds)
    except KafkaConnectionError as error:
        raise await _refusal(arguments) or error from error
    finally:
        if not starting.done():
            # Ended while it asks its first broker, aiokafka would leave that connection open.
            await asyncio.wait({starting}, timeout=ENDING_SECONDS)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)


async def _refusal(arguments: Mapping[str, Any]) -> KafkaRefusedError | None:
    """Whether one of the brokers refuses us, and why; None: it is an outage."""
    login = {name: value for name, value in arguments.items() if name != "bootstrap_servers"}
    for broker in arguments["bootstrap_servers"].split(","):
        host, _, port = broker.rpartition(":")
        try:
            connection = await create_conn(host, int(port), **login)
        except (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError) as error:
            return KafkaRefusedError(
                f"{broker} does not let {login['sasl_plain_username']} in ({type(error).__name__}): check"
                " KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM and KAFKA_SECURITY_PROTOCOL"
            )
        except ssl.SSLError as error:
            return KafkaRefusedError(f"{broker} and this process do not agree on TLS ({error}): check KAFKA_SSL_CAFILE")
        except (KafkaError, OSError, TimeoutError):
            continue
        connection.close()
        if not arguments["security_protocol"].startswith("SASL"):
            # It takes connections and ends them at the first question.
            return KafkaRefusedError(f"{broker} answers nothing without a login: check KAFKA_SECURITY_PROTOCOL")
    return None


def explain(error: BaseException) -> str:
    """An error in one line; a missing right with the way out."""
    if not isinstance(error, RIGHTS_ERRORS):
        return describe(error)
    # The broker only repeats its request for a missing cluster right, so we show the error's name.
    said = type(error).__name__ if isinstance(error, ClusterAuthorizationFailedError) else describe(error)
    deed = "`muster topics --acls --relay NAME --projectors NAME --events NAME` gives each principal its rights"
    return f"this principal has not the right ({said}): {deed}"
