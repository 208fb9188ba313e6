"""What runs Muster on many machines and watches it: the chart, the dashboards, the alerts.

`python -m deploy` writes the files that are made from code; a test compares them. Nothing of the product imports this.
"""
