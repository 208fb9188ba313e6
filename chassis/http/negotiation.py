"""Content negotiation: what the client accepts (RFC 9110 section 12.5.1) and what it sends (sections 8.3 and 8.4)."""

from __future__ import annotations

from starlette.requests import Request

from chassis.http.problems import NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, Problem

#: The name of no coding (RFC 9110, section 8.4.1).
_NO_CODING = "identity"


def accepts(request: Request, *media_types: str) -> str:
    """The media type that the Accept header prefers, the first where it likes several as much; without one the first.

    Raises:
        Problem: 406, it excludes all of them.
    """
    header = ",".join(request.headers.getlist("accept"))
    if not header.strip() or header == "*/*":
        return media_types[0]
    preferred = max(media_types, key=lambda each: _quality(header, each))
    if _quality(header, preferred) > 0:
        return preferred
    raise Problem(NOT_ACCEPTABLE, f"this resource is {' or '.join(media_types)}; Accept does not allow it")


def require_media_type(request: Request, allowed: tuple[str, ...]) -> None:
    """Raise a 415 where the body's media type is none of `allowed`, or where the body is compressed.

    Accept-Patch, Accept or Accept-Encoding then says what is taken.
    """
    coding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding not in {"", _NO_CODING}:
        detail = f"Content-Encoding is {coding}; send the body as it is, without a coding"
        raise Problem(UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": _NO_CODING})
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given in allowed:
        return
    header = "Accept-Patch" if request.method == "PATCH" else "Accept"
    detail = f"Content-Type is {given or 'missing'}; send {' or '.join(allowed)}"
    raise Problem(UNSUPPORTED_MEDIA_TYPE, detail, headers={header: ", ".join(allowed)})


def _quality(header: str, media_type: str) -> float:
    """The weight of the most specific media range that covers the type, 0 where none does."""
    kind = media_type.partition("/")[0]
    ranges = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        ranges[name] = _weight(parameters)
    for candidate in (media_type, f"{kind}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
