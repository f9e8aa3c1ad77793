"""Commands that run a process of the service until it is stopped."""
