"""Importing users by the thousand: the lines, the rows they become, and the handler of it all."""
