"""Traces: what a request led to and how long each step took, told to a collector of the operator's by OTLP.

Off, and never imported into the path of a request, unless OTEL_EXPORTER_OTLP_ENDPOINT is set. See docs/decisions/0036.
"""
