"""How long a command takes to be seen: commit, on the topic, in the read table, in an answer of the query API."""
