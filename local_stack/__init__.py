"""Real PostgreSQL and real Kafka as child processes, from wheels and jars: no Docker, no Java, nothing to install.

`muster up` runs the whole stack on it and the tests start private servers from it. It knows servers, not Muster:
what runs on them is handed in as commands and environments.
"""
