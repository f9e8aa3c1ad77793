"""Revenue of accounts over time: run rates, movements and retention. Pure."""
