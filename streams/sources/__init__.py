"""Where events come from when no gateway sends them: files, simulated traffic."""
