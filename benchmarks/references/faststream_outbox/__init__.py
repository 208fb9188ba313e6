"""faststream-outbox 0.19 relaying the same events to Kafka, as its documentation shows: by default, and at its best."""
