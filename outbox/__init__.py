"""The transactional outbox: a command appends its event in its own transaction, and the relay publishes it.

What a command needs is here, as are the relay's settings; `relay` reads and empties the table, `publishing` writes to
Kafka. Nothing here knows what an event is about.
"""
