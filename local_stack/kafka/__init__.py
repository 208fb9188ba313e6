"""Apache Kafka as a child process, from pinned jars."""
