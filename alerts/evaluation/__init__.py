"""The compiled rules evaluated over samples, without Prometheus."""
