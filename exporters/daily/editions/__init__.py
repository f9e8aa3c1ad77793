"""The weekly and monthly editions of the daily board: its days added up."""
