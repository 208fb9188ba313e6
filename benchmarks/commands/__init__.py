"""How fast commands are carried out, as ratios within one run: to the guide, the same SQL, bare hashes."""
