"""What Muster publishes: events, their CloudEvents envelope, a catalogue for each kind of subject, and the topics.

Only `user_events` knows what a user is. Subscribers in Python may import this package: it depends on pydantic and the
standard library alone.
"""
