"""Benchmarks: rates and ratios measured within one run, never thresholds."""
