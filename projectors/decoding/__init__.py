"""From a Kafka record to a change of one user, or to the reason why it cannot be read."""
