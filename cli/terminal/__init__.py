"""What commands show on a terminal: results, tables, outages, and the options that many of them share."""
