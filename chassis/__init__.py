"""The plumbing that every Muster process shares: settings, database, Kafka, problems, access, telemetry, health."""

__version__ = "0.1.0"
