"""Counts of event time: slices, histograms, names, and how they add up to windows. Pure."""
