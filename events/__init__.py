"""What Muster publishes: the user events, their CloudEvents envelope, the catalogue of types, and the topics.

Subscribers in Python may import this package; it depends on pydantic and the standard library alone.
"""
