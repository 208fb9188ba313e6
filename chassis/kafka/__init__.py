"""Kafka as every process reaches it: client settings, topics, and the errors that mean "not now"."""
