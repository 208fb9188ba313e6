"""The headers of a command, read and checked: If-Match, Idempotency-Key, traceparent."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from chassis.access.guard import Access
from chassis.http.problems import malformed_header
from chassis.identifiers import new_id_text
from chassis.telemetry import request_id
from chassis.tracing.context import read_traceparent
from chassis.tracing.spans import active
from command_api.idempotency.keys import InvalidKeyError, Keys
from command_api.users.context import Cause, CommandContext, Precondition

_ANY_VERSION: Final = "*"
#: One entity tag (RFC 9110, section 8.8.3).
_TAG: Final = r'(W/)?"([!#-~\x80-\xff]*)"'
#: The pattern of the header; the OpenAPI document shows it.
IF_MATCH: Final = rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"
#: `5`, or `5.` and anything: the query API adds the shape of its document to the version.
_VERSION: Final = re.compile(r"(?P<version>[1-9]\d{0,18})(?:\..*)?")


class InvalidPreconditionError(ValueError):
    """The header is no list of entity tags."""


def make_context(  # noqa: PLR0913 - one keyword for each thing that comes with a command
    keys: Keys,
    *,
    access: Access,
    traceparent: str | None,
    if_match: str | None,
    key: str | None,
    request: tuple[str, str, bytes],
) -> CommandContext:
    """The context that these headers say; `request` is the method, the path with ids in one form, and the body.

    Raises:
        Problem: 400, where If-Match or Idempotency-Key cannot be read.
    """
    cause = Cause(
        command_id=new_id_text(),
        correlation_id=request_id.get(),
        caller=access.caller,
        traceparent=_context_of_events(traceparent),
    )
    try:
        precondition = None if if_match is None else parse_if_match(if_match)
    except InvalidPreconditionError as error:
        raise malformed_header("If-Match", str(error)) from error
    context = CommandContext(cause=cause, access=access, precondition=precondition)
    if key is None:
        return context
    method, path, body = request
    try:
        made = keys.make(key, caller=access.caller, method=method, path=path, body=body, if_match=if_match)
    except InvalidKeyError as error:
        raise malformed_header("Idempotency-Key", str(error)) from error
    return replace(context, key=made)


def parse_if_match(header: str) -> Precondition:
    """Read an If-Match header (RFC 9110, section 13.1.1); weak tags and tags that are not ours match nothing.

    Raises:
        InvalidPreconditionError: it is no list of entity tags.
    """
    header = header.strip(" \t")
    if header == _ANY_VERSION:
        return Precondition(None)
    if not header:
        raise InvalidPreconditionError("is empty; leave it out, or give the ETag you saw")
    if not re.fullmatch(IF_MATCH, header):
        raise InvalidPreconditionError('must be entity tags in double quotes, such as "5", or *')
    strong = [_VERSION.fullmatch(opaque) for weak, opaque in re.findall(_TAG, header) if not weak]
    return Precondition(frozenset(int(version["version"]) for version in strong if version))


def _context_of_events(traceparent: str | None) -> str | None:
    """The context that travels with what the command leads to: of our span, or the caller's where we record none."""
    span = active()
    return valid_traceparent(traceparent) if span is None else span.context.traceparent


def valid_traceparent(header: str | None) -> str | None:
    """The header where it is a valid `traceparent`, else None: a broken one must not travel on with the event."""
    return header if read_traceparent(header) else None
