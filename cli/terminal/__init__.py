"""The terminal's side of commands: results, tables, outages, and the options that many of them share."""
