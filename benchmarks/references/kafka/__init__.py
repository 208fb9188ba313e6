"""Kafka by aiokafka alone: records from memory, without a database, transactions or order between the two."""
