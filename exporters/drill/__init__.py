"""Pages of one model, region, channel, tier, customer or incident: charts, tables, runbooks."""
