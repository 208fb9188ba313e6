"""From a Kafka record to an event of one subject, or to the reason why it cannot be read."""
