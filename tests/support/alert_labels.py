"""Labels of the alerts that tests send to a real Alertmanager."""

TTFT = {"alertname": "TokenpulseTtftHigh", "severity": "page", "derived_from": "state"}
BURN = {"alertname": "TokenpulseErrorBudgetBurn", "derived_from": "state", "policy": "default"}
FLEET_BURN = BURN | {"severity": "page", "scope": "fleet", "kind": "availability"}
STALE = {"alertname": "TokenpulseDataStale", "severity": "page", "cause": "workers"}
OUTAGE = {"alertname": "TokenpulseOutage", "severity": "page", "derived_from": "state"}
JUMP = {"alertname": "TokenpulseClientErrorsJump", "scope": "model", "model": "large"}
LIMITED = {"alertname": "TokenpulseRateLimitedJump", "severity": "ticket"}
VOLUME = {"alertname": "TokenpulseTokenVolumeDrop", "severity": "page", "derived_from": "state"}
SLOW = {"alertname": "TokenpulseModelSlowInRegion", "severity": "page", "derived_from": "state"}
CACHE = {"alertname": "TokenpulseCacheHitLow", "severity": "page", "derived_from": "state"}
EXPLAINS = {"alertname": "TokenpulseOutageExplains", "severity": "none", "derived_from": "state"}
DOWN = {"alertname": "TokenpulseExporterDown", "severity": "page", "cause": "down"}
INTAKE = {"alertname": "TokenpulseIntakeDown", "job": "tokenpulse-intake"}
SILENT = {"alertname": "TokenpulseSourceSilent", "severity": "ticket", "source": "gateway"}
INCOMPLETE = {"alertname": "TokenpulseWindowIncomplete", "severity": "ticket"}
LARGE_IN_EU = {"scope": "model_region", "model": "large", "region": "eu"}
UNDELIVERED = {"alertname": "TokenpulseAlertingFails", "cause": "delivery"}
REFUSED = {"alertname": "TokenpulseRecordsRefused"}
NOT_COUNTED = {"alertname": "TokenpulseNothingCounted", "severity": "page"}
HALTED = {"alertname": "TokenpulsePartitionHalted", "severity": "page", "partition": "0"}
LAG = {"alertname": "TokenpulseLagGrowing", "severity": "ticket", "route": "sre"}
