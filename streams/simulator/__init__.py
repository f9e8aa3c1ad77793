"""Simulated traffic that looks real, and the faults that can be switched on in it."""
