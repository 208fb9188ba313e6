"""How fast the query API answers, as ratios within one run: to the guide's design and to FastAPI's hello world."""
