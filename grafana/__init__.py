"""Grafana dashboards as code: `make dashboards` writes grafana/dashboards from here.

Pure but for `generate`. Metric names and labels come only from the exporters' catalogue, thresholds
only from the policies, so neither can be renamed or changed without the boards following.
"""
