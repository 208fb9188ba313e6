"""Muster beside what else is used for the same, in one run on the same servers: relays, rebuilds, lists of users."""
