"""Commands with which an operator repairs partitions and their stored state."""
