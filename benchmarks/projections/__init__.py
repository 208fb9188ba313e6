"""How fast read tables are built from the topic, as ratios within one run: to reading it and to writing the rows."""
