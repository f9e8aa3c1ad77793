"""How all processes write their logs: one format, and repeated messages counted."""
