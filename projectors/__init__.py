"""From Kafka to the read tables: one consumer group per projection and generation, one module per projection."""
