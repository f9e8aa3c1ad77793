"""For every alerting rule, series on which it must fire and series on which it must not.

Written as unit tests for `promtool test rules`. What the rules should do is said here again by
hand, in plain numbers, and not taken from the compiler.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from tests.support.rule_cases_intake import intake_down
from tests.support.rule_cases_monitoring import alerting_fails, exporter_down, scrape_limit
from tests.support.rule_cases_objectives import (
    burning,
    cache_hit,
    credit,
    latency,
    missed,
    token_volume,
)
from tests.support.rule_cases_outages import explains, outage, slow_cell
from tests.support.rule_cases_pipeline import (
    archive_old,
    clock_off,
    disagree,
    halted,
    incomplete,
    lag_growing,
    memory,
    nothing_counted,
    refused,
    rose,
    stale,
    store_errors,
)
from tests.support.rule_cases_sources import gone_silent, new_scope, sampled, usage_missing
from tests.support.rule_cases_traffic import (
    client_errors,
    flood,
    rate_limited,
    silent,
    unreported,
)
from tests.support.rule_series import AT, STEP_S, Case, Labels

ALWAYS = {"TokenpulseWatchdog": "a dead-man's switch must never be silent"}
CASES: dict[str, Callable[[Labels], list[Case]]] = {
    "TokenpulseErrorBudgetBurn": burning,
    "TokenpulseObjectiveMissed": missed,
    "TokenpulseCreditDue": credit,
    "TokenpulseTtftHigh": latency,
    "TokenpulseTpotHigh": latency,
    "TokenpulseDurationHigh": latency,
    "TokenpulseFirstVisibleHigh": latency,
    "TokenpulseCacheHitLow": cache_hit,
    "TokenpulseTokenVolumeDrop": token_volume,
    "TokenpulseOutage": outage,
    "TokenpulseClientErrorsJump": client_errors,
    "TokenpulseRateLimitedJump": rate_limited,
    "TokenpulseCustomerFlood": flood,
    "TokenpulseCustomerSilent": silent,
    "TokenpulseCachedTokensUnreported": unreported,
    "TokenpulseWatchdog": lambda _: [Case("missing data", True, {})],
    "TokenpulseDataStale": stale,
    "TokenpulseOutageExplains": explains,
    "TokenpulseModelSlowInRegion": slow_cell,
    "TokenpulseExporterDown": exporter_down,
    "TokenpulseScrapeLimit": scrape_limit,
    "TokenpulseIntakeDown": intake_down,
    "TokenpulseAlertingFails": alerting_fails,
    "TokenpulseNothingCounted": nothing_counted,
    "TokenpulseExportersDisagree": disagree,
    "TokenpulsePartitionHalted": halted,
    "TokenpulseWindowIncomplete": incomplete,
    "TokenpulseArchiveOld": archive_old,
    "TokenpulseMemoryNearLimit": memory,
    "TokenpulseClockOff": clock_off,
    "TokenpulseRecordsLost": rose("tokenpulse_lost_records_total", 1, partition="0"),
    "TokenpulseStateLost": rose("tokenpulse_state_losses_total", 1, partition="0"),
    "TokenpulseStateRolledBack": rose("tokenpulse_state_rollbacks_total", 1, worker="w1"),
    "TokenpulseStateConflict": rose("tokenpulse_worker_conflicts_total", 1, worker="w1"),
    "TokenpulseStoreErrors": store_errors,
    "TokenpulseDuplicateWindowForgotten": rose(
        "tokenpulse_duplicate_window_forgotten_total", 9, partition="0"
    ),
    "TokenpulseLabelsFolded": rose("tokenpulse_folded_total", 1, dimension="model"),
    "TokenpulseLagGrowing": lag_growing,
    "TokenpulseRecordsRefused": refused,
    "TokenpulseSourceSilent": gone_silent,
    "TokenpulseSourceUsageMissing": usage_missing,
    "TokenpulseSourceSampled": sampled,
    "TokenpulseSourceScopeNew": new_scope,
}


def isolated(rule: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> str:
    """A rule file with this alert alone, as promtool evaluates all of a file at every step.

    `records`: those of all groups; before the alert stand those that it reads.
    """
    rules = [rule]
    # From the last to the first, as a record reads only records before it.
    for record in reversed(list(records)):
        if any(record["record"] in reader["expr"] for reader in rules):
            rules.insert(0, record)
    return rule_file(rules)


def rule_file(rules: Iterable[Mapping[str, Any]]) -> str:
    """The file of one group."""
    group = {"name": "one", "rules": [dict(rule) for rule in rules]}
    return yaml.safe_dump({"groups": [group]}, width=10_000)


def unit_tests(rule_file: str, rule: Mapping[str, Any]) -> str:
    """The file by which promtool tests the rule that is alone in a rule file."""
    chosen = ",".join(f'{key}="{value}"' for key, value in rule["labels"].items())
    chosen = f'alertname="{rule["alert"]}",{chosen}'
    firing = f'ALERTS{{alertstate="firing",{chosen}}}'
    tests = [
        {
            "name": f"{chosen} {'fires' if case.fires else 'is silent'}: {case.why}",
            "interval": f"{STEP_S}s",
            "input_series": [
                {"series": series, "values": values} for series, values in case.series.items()
            ],
            "promql_expr_test": [
                {
                    # promtool shows the expression of a failed test, but not its name
                    "expr": f"count(count by (alertname) ({firing})) or vector(0) # {case.why}",
                    "eval_time": AT,
                    "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
                }
            ],
        }
        for case in CASES[rule["alert"]](rule["labels"])
    ]
    whole = {"rule_files": [rule_file], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    return yaml.safe_dump(whole, sort_keys=False, width=10_000)
