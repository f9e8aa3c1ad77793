"""Policies become Prometheus alerting rules."""
