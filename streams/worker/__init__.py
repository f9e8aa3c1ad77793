"""One worker process: it claims partitions, counts, writes checkpoints and gives back."""
