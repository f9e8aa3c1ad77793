"""Policies, and the status of their objectives."""
