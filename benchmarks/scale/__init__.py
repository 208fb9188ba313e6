"""Scale on paper: what a plan for so many users, commands and queries takes, by figures that were measured.

`python -m benchmarks.scale` prints the tables of docs/explanation/scale.md; with `--write` it puts them there.
"""
