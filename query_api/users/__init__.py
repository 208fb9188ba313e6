"""Queries about users: the list, one user, the timeline, sign-ups."""
