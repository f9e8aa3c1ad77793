"""The daily reliability board: final days against their targets, with the causes of changes."""
