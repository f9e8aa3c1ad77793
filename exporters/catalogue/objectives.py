"""The metrics about promises: attainment, error budgets, credits. A part of the catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

SCOPE = ("model", "region", "channel", "service_tier", "customer")
LABELS = ("policy", "objective", *SCOPE)

ATTAINMENT = Spec(
    "tokenpulse_objective_attainment_ratio",
    "gauge",
    "Share of requests, minutes or slices of the period so far that were good.",
    LABELS,
    "Absent while nothing is known.",
)
TARGET = Spec(
    "tokenpulse_objective_target_ratio",
    "gauge",
    "The attainment promised.",
    LABELS,
    "At the target it is met.",
)
BUDGET_LEFT = Spec(
    "tokenpulse_objective_error_budget_left_ratio",
    "gauge",
    "Share of the error budget of the period so far that is left.",
    LABELS,
    "Below 0 the target is missed.",
)
BURN_RATE = Spec(
    "tokenpulse_objective_burn_rate",
    "gauge",
    "Speed at which the error budget is spent in a window; 1 spends all of it in the period.",
    (*LABELS, "window"),
    "Absent where nothing is known. Requests: the running minute included; minutes and slices: "
    "those that are over.",
)
ELIGIBLE = Spec(
    "tokenpulse_objective_eligible",
    "gauge",
    "Requests, or measured ones for latencies, that count in a window.",
    (*LABELS, "window"),
    "How much the burn rate weighs.",
)
VERDICTS = Spec(
    "tokenpulse_objective_verdict_seconds",
    "gauge",
    "Time of the period so far by verdict: up, down, unknown, excluded.",
    (*LABELS, "verdict"),
    "Only for promises that judge minutes or slices. A minute whose records were lost, or that "
    "nobody counted by itself, is unknown.",
)
EXHAUSTED = Spec(
    "tokenpulse_objective_budget_exhausted_timestamp_seconds",
    "gauge",
    "When the error budget is used up if the last day goes on.",
    LABELS,
    "Absent if that is not in sight; the present if it is used up.",
)
PROJECTED = Spec(
    "tokenpulse_objective_projected_ratio",
    "gauge",
    "Attainment at the end of the calendar month if the last day goes on.",
    LABELS,
    "For calendar months only.",
)
CREDIT_SHARE = Spec(
    "tokenpulse_objective_credit_share_ratio",
    "gauge",
    "Share of the fee that is due as a credit if the month ended now.",
    LABELS,
    "For objectives with an SLA. Not judged across a greatest_of group.",
)
CREDIT_DUE = Spec(
    "tokenpulse_objective_credit_due_usd",
    "gauge",
    "Credit in US dollars if the month ended now.",
    LABELS,
    "Absent without a fee in dollars. Of a greatest_of group only the greatest is shown.",
)
CREDIT_PROJECTED = Spec(
    "tokenpulse_objective_credit_projected_usd",
    "gauge",
    "Credit in US dollars at the end of the month if the last day goes on.",
    LABELS,
    "As the credit that is due.",
)
ADJUSTMENTS = Spec(
    "tokenpulse_objective_adjusted_periods",
    "gauge",
    "Closed periods that would read otherwise today.",
    LABELS,
    "Late events, or maintenance that was changed afterwards: `tokenpulse sla` says which.",
)

OBJECTIVES = MetricGroup(
    "Objectives",
    "The promises of the policies in `exporter.policies`, counted exactly (sla.md). `model` to "
    "`customer` are there where the objective's scope names one, or judges each by itself. Absent "
    "until the ledgers have been read.",
    (
        *(ATTAINMENT, TARGET, BUDGET_LEFT, BURN_RATE, ELIGIBLE, VERDICTS, EXHAUSTED, PROJECTED),
        *(CREDIT_SHARE, CREDIT_DUE, CREDIT_PROJECTED, ADJUSTMENTS),
    ),
)
