"""The commands of operators: lag, rebuild, parked, audit, repair."""
