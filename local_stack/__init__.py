"""Real PostgreSQL and real Kafka as child processes, from wheels and jars: no Docker, no Java, nothing to install.

`muster up` runs the whole stack with it, and tests start private servers from it. It knows servers and not Muster:
what runs beside them comes in as commands and environments.
"""
