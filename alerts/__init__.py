"""Policies compiled to Prometheus rules, evaluated over samples, and replayed over recordings."""
