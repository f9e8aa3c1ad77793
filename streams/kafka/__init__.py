"""The broker: fetch, record batches, topics, and the producer."""
