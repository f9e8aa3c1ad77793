"""The live board: one page that says how the service is, for people without Grafana."""
