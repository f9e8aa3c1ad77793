"""The rules on recorded traffic: the alerts that would have fired, and when."""
