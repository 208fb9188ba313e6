"""The event API: the topic of events over HTTP, for services without a Kafka client."""
