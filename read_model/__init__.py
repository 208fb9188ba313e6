"""The read tables and their generations: written by projectors, read by the query API."""
