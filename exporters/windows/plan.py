"""Which windows the exporter publishes, in which scopes, and how a scope groups. Pure."""

from exporters.catalogue.spec import SCOPE_LABELS
from exporters.windows.incremental import CUSTOMER, Grouping
from streams.config.settings import Settings
from streams.state.measures import SERIES_DIMENSIONS

CALENDAR = ("day", "month")


def window_plan(settings: Settings) -> dict[str, list[str]]:
    """Return, by window, the scopes that it is exported in."""
    exporter = settings.exporter
    # Series and customers are many, so their windows are chosen one by one.
    shared = [scope for scope in SCOPE_LABELS if scope not in ("series", CUSTOMER)]
    plan: dict[str, list[str]] = {}
    for name in (*exporter.windows, *CALENDAR):
        plan[name] = list(shared)
    for name in exporter.series_windows:
        plan.setdefault(name, []).append("series")
    for name in exporter.customer_windows if exporter.customers_top else ():
        plan.setdefault(name, []).append(CUSTOMER)
    return plan


def scope_grouping(scope: str) -> Grouping:
    """Return how sums are grouped in a scope of the catalogue."""
    if scope == CUSTOMER:
        return Grouping(scope, (CUSTOMER,), (CUSTOMER, "model"))
    return Grouping(scope, SCOPE_LABELS[scope], SERIES_DIMENSIONS)
