"""Writing to Kafka: a page of rows as record batches in one transaction, and what a broker may leave behind of one."""
