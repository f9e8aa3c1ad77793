"""State in, numbers out: from Redis to Prometheus and JSON. Keeps nothing of its own."""
