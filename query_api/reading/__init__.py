"""Reading the query database: bounded, coalesced, fresh enough, from the generation that serves."""
