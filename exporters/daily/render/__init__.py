"""The daily board in each of its formats."""
