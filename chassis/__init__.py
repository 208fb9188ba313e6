"""What every Muster process shares and no user appears in: settings, database, Kafka, problems, telemetry, health."""

__version__ = "0.1.0"
