"""Kafka Connect with Debezium's PostgreSQL connector and its outbox event router, exactly once: the decisive rival."""
