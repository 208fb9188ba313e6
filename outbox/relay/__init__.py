"""The relay: one process publishes the outbox to Kafka, others stand by."""
