"""Records that a projection could not apply: why, who waits behind them, and what may be done."""
