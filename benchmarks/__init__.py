"""Every published number, reproducible with one command: `make bench`, or `python -m benchmarks NAME`.

A benchmark is a folder with `run.py`, whose `run(plan)` starts its own servers (servers.py), measures subject and
reference in turns (rounds.py), and gives a Result (result.py) of figures and bars. What is shown and written from it is
reporting/'s affair. Method and limits: docs/benchmarks/README.md. Nothing imports this package.
"""
