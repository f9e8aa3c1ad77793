"""Sums over time spans, read from the slices that changed since the last refresh."""
