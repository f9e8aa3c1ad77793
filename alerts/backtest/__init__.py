"""The rules on recorded traffic: what would have fired, and when."""
