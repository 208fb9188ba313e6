"""How a result is shown and written: a table on the terminal, JSON, a page with plots."""
