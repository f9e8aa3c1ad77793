"""Bytes of a record become columns of numbers, or a rejection. Pure."""
