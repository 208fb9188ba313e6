"""Importing users by the thousand: routes, handlers, lines and store, in an import's order."""
