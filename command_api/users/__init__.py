"""Users as the write side knows them: routes, commands, handlers, store, state, decisions, in a command's order."""
