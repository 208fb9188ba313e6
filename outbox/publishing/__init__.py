"""From a page of outbox rows to one committed Kafka transaction."""
