"""The state outside the process: its contract, Redis, and the archive."""
