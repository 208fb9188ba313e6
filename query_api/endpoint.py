"""The ASGI side of a query: its request in, its answer or problem out, with As-Of on either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chassis.http.problems import METHOD_NOT_ALLOWED, NOT_FOUND, Problem, problem_response, unavailable
from chassis.postgres.database import DatabaseUnavailableError
from query_api.dependencies import Query, QueryResources
from query_api.protocol.exchange import CONSISTENCY_TOKEN, VARY, QueryExchange
from query_api.reading.consistency import ClientLeftError

log = structlog.get_logger("query")

#: nginx's status for "the client left before the answer": nobody receives it, and the metrics count it.
CLIENT_LEFT: Final = 499


class Endpoint:
    """One query as an ASGI application, for a plain route: a FastAPI route would cost more than the query."""

    def __init__(self, query: type[Query]) -> None:
        """Serve this query."""
        self._query = query
        self._methods = ("GET", "HEAD") if query.method == "GET" else (query.method,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        resources: QueryResources = scope["app"].state.resources
        if scope["method"] not in self._methods:
            # Ahead of the exchange: no access is decided for what is no route.
            await self._explain(_not_allowed(self._methods), scope, resources)(scope, receive, send)
            return
        exchange = QueryExchange(scope, receive)
        try:
            answer = await resources.queries[self._query].answer(exchange)
        except Problem as problem:
            response = self._explain(problem, scope, resources)
            if problem.type is NOT_FOUND:
                # Only once the tokens are reached may an answer say that there is no such user.
                applied = exchange.applied(waited=exchange.has(CONSISTENCY_TOKEN))
                response.raw_headers.extend(applied)
        except DatabaseUnavailableError as error:
            log.warning("query.unavailable", reason=str(error))
            response = self._explain(unavailable("the read database does not answer now"), scope, resources)
        except ClientLeftError:
            response = Response(status_code=CLIENT_LEFT)
        else:
            await answer.send(scope, send)
            return
        await response(scope, receive, send)

    def headers(self, resources: QueryResources) -> dict[str, str]:
        """The headers of every answer: how fresh the projection is, if it can be read at all."""
        as_of = resources.serving.as_of(self._query.projection)
        return {"As-Of": as_of.decode("ascii")} if as_of else {}

    def _explain(self, problem: Problem, scope: Scope, resources: QueryResources) -> Response:
        response = problem_response(problem, instance=scope["path"])
        response.raw_headers.append(VARY)
        response.headers.update(self.headers(resources))
        return response


def _not_allowed(methods: Sequence[str]) -> Problem:
    return Problem(METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED.meaning, headers={"Allow": ", ".join(methods)})
