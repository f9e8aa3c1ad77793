"""Spans of OTLP traces become events of the contract."""
