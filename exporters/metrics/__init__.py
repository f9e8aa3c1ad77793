"""Samples of the metrics, and the page they are written on."""
