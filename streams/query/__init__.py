"""Questions to the stored state: reports, partitions, readiness."""
