"""SLO and SLA policies: what was promised, in files that people can read and finance can check."""
