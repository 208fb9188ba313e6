"""The parts that every query has in common over HTTP: parameters, preferences, cursors, pages, problems."""
