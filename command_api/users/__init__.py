"""Users as the write side knows them: commands, decisions, state, the store, and the handlers of it all."""
