"""The command API over HTTP: routes, the fast path, errors, the OpenAPI document. Nothing but the app imports it."""
