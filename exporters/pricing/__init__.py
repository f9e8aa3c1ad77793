"""Costs of requests: dated price lists, and the cost of a request by them. Pure."""
