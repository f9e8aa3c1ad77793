"""The metrics of objectives: attainment, error budgets, credits. A part of the catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

SCOPE = ("model", "region", "channel", "service_tier", "customer")
# All dimensions for every metric: Prometheus takes a label that an objective does not have for an
# empty one, so that all objectives can be joined by the same labels.
LABELS = ("policy", "objective", *SCOPE)

ATTAINMENT = Spec(
    "tokenpulse_objective_attainment_ratio",
    "gauge",
    "Share of requests, minutes or slices of the period so far that were good.",
    LABELS,
    "Absent while it is unknown.",
)
UNKNOWN = Spec(
    "tokenpulse_objective_unknown",
    "gauge",
    "Always 1, with the reason why the attainment is unknown; absent while it is known.",
    (*LABELS, "reason"),
    "Label `reason`: limit_not_counted, input_length_not_counted, excluded, no_requests, "
    "incomplete, too_few, names_folded. `tokenpulse sla` says it in a sentence.",
    "0.2.0",
)
TARGET = Spec(
    "tokenpulse_objective_target_ratio",
    "gauge",
    "The target of the objective.",
    LABELS,
    "An attainment equal to the target meets it.",
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
    "Absent if it is unknown. Requests: the running minute is included. Minutes and slices: only "
    "ended ones.",
)
ELIGIBLE = Spec(
    "tokenpulse_objective_eligible",
    "gauge",
    "Requests that count in a window; for latencies, measured requests.",
    (*LABELS, "window"),
    "Number of requests behind the burn rate.",
)
# Published names keep their spelling: a verdict is what the code calls a minute status.
VERDICTS = Spec(
    "tokenpulse_objective_verdict_seconds",
    "gauge",
    "Time of the period so far by status: up, down, unknown, excluded.",
    (*LABELS, "verdict"),
    "Only for objectives that judge minutes or slices. A minute with lost records, or one that "
    "was not counted by itself, is unknown.",
)
EXHAUSTED = Spec(
    "tokenpulse_objective_budget_exhausted_timestamp_seconds",
    "gauge",
    "Time at which the error budget is used up if the last 24 hours continue.",
    LABELS,
    "Absent if the budget lasts at this pace; the present time if it is used up.",
)
PROJECTED = Spec(
    "tokenpulse_objective_projected_ratio",
    "gauge",
    "Attainment at the end of the calendar month if the last 24 hours continue.",
    LABELS,
    "Only for calendar months.",
)
CREDIT_SHARE = Spec(
    "tokenpulse_objective_credit_share_ratio",
    "gauge",
    "Share of the fee that is due as a credit if the month ended now.",
    LABELS,
    "Only for objectives with an SLA. Each objective by itself, without greatest_of.",
)
CREDIT_DUE = Spec(
    "tokenpulse_objective_credit_due_usd",
    "gauge",
    "Credit in US dollars if the month ended now.",
    LABELS,
    "Absent without a fee in dollars. In a greatest_of group only the greatest credit is shown.",
)
CREDIT_PROJECTED = Spec(
    "tokenpulse_objective_credit_projected_usd",
    "gauge",
    "Credit in US dollars at the end of the month if the last 24 hours continue.",
    LABELS,
    "As tokenpulse_objective_credit_due_usd.",
)
ADJUSTMENTS = Spec(
    "tokenpulse_objective_adjusted_periods",
    "gauge",
    "Closed periods that would have another result today.",
    LABELS,
    "Because of late events, or of maintenance that was changed afterwards: `tokenpulse sla` "
    "shows the reason.",
)

OBJECTIVES = MetricGroup(
    "Objectives",
    "The objectives of the policies in `exporter.policies`, counted exactly (sla.md). The labels "
    "`model` to `customer` are present if the objective's scope names one value, or judges each "
    "value by itself. Absent until the per-minute counts have been read after a start.",
    (
        *(ATTAINMENT, TARGET, BUDGET_LEFT, BURN_RATE, ELIGIBLE, VERDICTS, EXHAUSTED, PROJECTED),
        *(CREDIT_SHARE, CREDIT_DUE, CREDIT_PROJECTED, ADJUSTMENTS, UNKNOWN),
    ),
)
