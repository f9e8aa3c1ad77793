"""Turns records of producers into events of the contract: over HTTP and from topics."""
