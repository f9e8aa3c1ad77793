"""Everything on this machine, with no server installed."""
