"""Makes of a Kafka record an event of one subject, or the reason why it cannot be read."""
