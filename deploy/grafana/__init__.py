"""Three dashboards for Grafana: how the service is, where an event is on its way, and what fills up next.

`dashboards.py` says what is on them, `panels.py` how Grafana wants it; `python -m deploy` writes `dashboards/*.json`.
"""
