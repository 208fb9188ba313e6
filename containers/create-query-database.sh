#!/bin/sh
# Run by the postgres image once, while its volume is empty: the image makes one database by itself, Muster has two.
# Sourced by the image's own script where the file is not executable, so it changes no shell option.
createdb --username "$POSTGRES_USER" --owner "$POSTGRES_USER" "$QUERY_POSTGRES_DB"
