"""Customer SLA: status of one customer's objectives, minute by minute, and the credits due."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from alerts.promql import sum_of
from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import Spec
from grafana import lines, series
from grafana.boards.live_places import WORST_LINES
from grafana.frame import CELL, BoardSection, Variable, board, link_to
from grafana.named_values import Named
from grafana.panels import Panel, Query, graph, history, number
from grafana.queries import STEP, Chosen, only_worst, select, window
from grafana.tables import Column, listing
from grafana.thresholds import BAD, GOOD, BoardLimits, bad_above, bad_below
from grafana.trust import trust

DAY = "24h"
CHOSEN = {**series.OBJECTIVE, "customer": Chosen("customer")}
_SHOWN, _ROWS = 50, 20  # objectives with the least budget in the table, most down as rows of cells
_SLICE = "5m"  # of the status history

VARIABLES = (
    Variable(
        "policy",
        "Policy",
        "Policies in force.",
        objective_metrics.TARGET,
        {},
        several=False,
    ),
    Variable(
        "objective",
        "Objective",
        "Objectives of the chosen policy.",
        objective_metrics.TARGET,
        {"policy": Chosen("policy")},
        several=False,
    ),
    Variable(
        "customer",
        "Customer",
        "Customers whom the chosen objective judges one by one. `All` includes objectives "
        "that are for no customer in particular.",
        objective_metrics.TARGET,
        series.OBJECTIVE,
        several=False,
        optional=True,
    ),
)


def sla(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board."""
    return board(
        "sla",
        "For account teams: one customer's objective: attainment, error budget, minutes down, "
        "credits. Choose policy, objective and customer; of several the worst is shown. Contract "
        "grade: `tokenpulse sla --json` says the same.",
        (
            BoardSection("The objective, its period so far", tuple(_standing(limits))),
            BoardSection("All that is chosen", tuple(_all())),
            trust(DAY),
            BoardSection("Minutes down", tuple(_minutes())),
            BoardSection("Error budget", tuple(_budget(limits))),
            BoardSection("The customer's traffic, last 24 hours", tuple(_traffic(limits))),
        ),
        VARIABLES,
        since="now-24h",
        has_annotations=False,
        refresh="1m",
    )


def _of(spec: Spec, *more: str, **labels: str) -> str:
    return series.of_objectives(spec, *more, **CHOSEN, **labels)


def _standing(limits: BoardLimits) -> Iterator[Panel]:
    yield number(
        "Attainment",
        "Share of requests, minutes or slices that were good. Compare with the target beside it.",
        # Of several objectives the worst is shown: lowest attainment, highest target.
        f"min({_of(objective_metrics.ATTAINMENT)})",
        "percentunit",
        decimals=4,
    )
    yield number(
        "Target",
        "The attainment that is agreed.",
        f"max({_of(objective_metrics.TARGET)})",
        "percentunit",
        decimals=4,
    )
    yield number(
        "Budget left",
        "Share of the error budget of the period so far; below 0 the objective is missed.",
        f"min({_of(objective_metrics.BUDGET_LEFT)})",
        "percentunit",
        bad_below(0),
        decimals=1,
    )
    yield number(
        "Burn rate, 1h",
        "Speed at which the error budget was spent over the last hour; 1 spends all in the period.",
        f"max({_of(objective_metrics.BURN_RATE, window='1h')})",
        "none",
        limits.burn,
        decimals=1,
    )
    yield number(
        "Used up in",
        "Time until the error budget is used up if the last day goes on.",
        # A budget that is used up has its end in the past: 0 s are left.
        f"clamp_min(min({_of(objective_metrics.EXHAUSTED)}) - time(), 0)",
        "dtdurations",
        unknown="not in sight",
    )
    yield number(
        "Minutes down",
        "Minutes of the period so far that were judged as down. Only for objectives that judge "
        "minutes or slices.",
        # The metric counts seconds.
        f"sum({_of(objective_metrics.VERDICTS, verdict='down')}) / 60",
        "m",
        bad_above(1),
        unknown="not judged by minutes",
    )
    yield number(
        "Credit due",
        "US dollars if the month ended now.",
        f"sum({_of(objective_metrics.CREDIT_DUE)})",
        "currencyUSD",
        bad_above(0.01),
        unknown="none known",
    )
    yield number(
        "Credit at end",
        "US dollars at the end of the month if the last day goes on.",
        f"sum({_of(objective_metrics.CREDIT_PROJECTED)})",
        "currencyUSD",
        bad_above(0.01),
        unknown="none known",
    )


def _minutes() -> Iterator[Panel]:
    """Yield the panels of the minutes that were judged as down."""
    # The down time of a period only grows, so its growth over a step is the down time of the step.
    down = select(objective_metrics.VERDICTS, "", {**CHOSEN, "verdict": "down"})
    by = ("policy", "objective", *objective_metrics.SCOPE)
    grown = f"max by ({', '.join(by)}) ({down} - {down} offset {STEP})"
    yield history(
        "Minutes down, one by one",
        "Up, or down for at least a second; hover for how many minutes. A cell is five minutes or, "
        "over a longer time, more. What was judged before this Prometheus scraped it is not here: "
        "`tokenpulse sla` has it.",
        Query(f"topk({_ROWS}, clamp_min({grown}, 0) / 60)", series.objective_legend()),
        "m",
        # In minutes: a second of down time turns the cell red.
        ((None, GOOD), (1 / 60, BAD)),
        _SLICE,
        named=Named(ranges=((None, 0, "up", GOOD),)),
    )
    yield graph(
        "Time by verdict",
        "The period so far. A minute that nobody counted by itself, or whose records were lost, is "
        "unknown.",
        (
            Query(
                series.worst("sum", _of(objective_metrics.VERDICTS, "verdict"), "verdict"),
                "{{objective}} {{verdict}}",
            ),
        ),
        "dtdurations",
        width=24,
        height=6,
        lines=lines.VERDICTS,
    )


def _budget(limits: BoardLimits) -> Iterator[Panel]:
    yield graph(
        "Attainment against target",
        "The period so far; of several the worst.",
        (
            Query(series.worst("min", _of(objective_metrics.ATTAINMENT)), "{{objective}}"),
            Query(series.worst("max", _of(objective_metrics.TARGET)), "target {{objective}}"),
        ),
        "percentunit",
        lines=lines.TARGET,
        least=None,
        most=1,
    )
    yield graph(
        "Error budget left over time",
        "Below 0 the objective is missed.",
        (Query(series.worst("min", _of(objective_metrics.BUDGET_LEFT)), "{{objective}}"),),
        "percentunit",
        bad_below(0),
        least=None,
        most=1,
    )
    yield graph(
        "Burn rate by window",
        "1 spends the whole budget in the period. A rule tells when a long and a short window burn "
        "too fast.",
        (
            Query(
                series.worst("max", _of(objective_metrics.BURN_RATE, "window"), "window"),
                "{{objective}} {{window}}",
            ),
        ),
        "none",
        limits.burn,
    )


def _all() -> Iterator[Panel]:
    labels = ("policy", "objective", *objective_metrics.SCOPE)
    columns = [
        ("Attained", objective_metrics.ATTAINMENT, "percentunit", 4),
        ("Target", objective_metrics.TARGET, "percentunit", 4),
        ("Projected", objective_metrics.PROJECTED, "percentunit", 4),
        ("Credit share", objective_metrics.CREDIT_SHARE, "percentunit", 0),
        ("Credit due", objective_metrics.CREDIT_DUE, "currencyUSD", 2),
        ("Credit projected", objective_metrics.CREDIT_PROJECTED, "currencyUSD", 2),
        ("Closed periods to correct", objective_metrics.ADJUSTMENTS, "short", 0),
    ]
    left = _of(objective_metrics.BUDGET_LEFT)
    yield listing(
        "Objectives",
        f"The {_SHOWN} with the least error budget. Click a customer to see it alone.",
        labels,
        (
            Column("Budget left", left, "percentunit", bad_below(0), 1),
            *(Column(name, _of(spec), unit, decimals=to) for name, spec, unit, to in columns),
        ),
        among=f"bottomk({_SHOWN}, {left})",
        links={"customer": link_to("sla", customer=CELL)},
        widths={
            "customer": 200,
            "Budget left": 125,
            "Credit share": 125,
            "Credit projected": 150,
            "Closed periods to correct": 200,
        },
        sort_by="Budget left",
        ascending=True,
        width=24,
    )


def _traffic(limits: BoardLimits) -> Iterator[Panel]:
    who = {"customer": Chosen("customer")}
    lowest = f"the {WORST_LINES} lowest of the time shown"
    yield graph(
        "Availability",
        "Successes of the requests that count, probes not included. Of the customers with the most "
        f"requests {lowest}.",
        (_lowest(window(request_metrics.AVAILABILITY_RATIO, "customer", DAY, **who)),),
        "percentunit",
        least=None,
        most=1,
        many=True,
    )
    yield graph(
        "Requests by outcome",
        "Of the last 24 hours, at each moment.",
        (
            Query(
                sum_of(
                    window(
                        *(
                            request_metrics.WINDOW_REQUESTS,
                            "customer",
                            DAY,
                            ("customer", "outcome"),
                        ),
                        **who,
                    ),
                    ("outcome",),
                ),
                "{{outcome}}",
            ),
        ),
        "short",
        stacked=True,
        lines=lines.OUTCOMES,
    )
    yield graph(
        "Cache hit ratio",
        f"Of the customers with the most requests {lowest}. {series.cache_target(limits)}",
        (_lowest(window(request_metrics.CACHE_HIT_RATIO, "customer", DAY, **who)),),
        "percentunit",
        limits.cache_hit,
        most=1,
        many=True,
    )


def _lowest(ratio: str) -> Query:
    """Return the query of the customers with the lowest ratios."""
    return Query(only_worst(ratio, "customer", WORST_LINES, lowest=True), "{{customer}}")
