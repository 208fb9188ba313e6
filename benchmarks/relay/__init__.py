"""The relay's promises: how fast a backlog drains, what a trickle waits, what both cost, and how long nobody leads."""
