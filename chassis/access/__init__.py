"""Who calls, and what they may do: bearer tokens of one issuer (RFC 6750, RFC 9068), scopes, and the table of routes.

A request's way: `guard` finds the route's rule in `rules`, `authenticator` turns the token into a `caller`, with the
issuer's `keys` and the form that `tokens` checks. Nothing here knows users.
"""
