"""Rules about outages: the fleet, a region, a model, or one model in one region.

Pure. One fault must page once, under the name of the place that explains it best. If region eu is
down and serves most of the fleet, the fleet is below its limit too; if model large is down and
serves most of eu, eu is. So an alert holds only if no other place explains its failures:

    place      holds unless
    fleet      one or two regions or models that are down have nearly all failures of the fleet
    region     one or two models that are down have nearly all failures of the region
    model      one or two regions that are down, and not by this model, have nearly all of the model

Three or more places that are down, with most requests of the fleet, are an outage of the fleet: it
holds as soon as they are down, so that it silences them in time.

An expression cannot see the rest, so Alertmanager's inhibition does it (docs/alerting.md): the
outage of a place silences those of the smaller places inside it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from alerts.promql import (
    INSTALLATION,
    aggregate,
    any_of,
    largest_two,
    newest,
    number,
    on,
    total_of,
)
from alerts.rules.model import (
    REQUESTS_OF_PLACE,
    Alert,
    Read,
    customers_affected,
    dashboard,
    traffic_share,
)
from alerts.rules.place_counts import CELL, CELL_LABELS, eligible, failures
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    CELL_MIN_REQUESTS,
    CELL_WINDOW,
    EXPLAINS_ABOVE,
    MANY_PLACES,
    OUTAGE_BELOW,
    OUTAGE_MIN_REQUESTS,
)

# The failures stay for five minutes in the short window of the burn rates and of single series,
# whose alerts then last for another minute: none of them may page after the outage ended.
EXPLAINED_KEEP_S = 420
# By the long window of a burn rate; the short one of 6 h is 30 minutes.
_BURN_KEEP_S = {"1h": EXPLAINED_KEEP_S, "6h": 1_920}
# Places differ by chance in when they cross the limit. So that those of a fleet that is down do
# not page beside it, they wait for one more sample; and a larger place outlasts those inside it,
# one model in one region by as long as its window takes to show the recovery.
_FLEET_FOR_S, _PLACE_FOR_S = 10, 20
PLACE_KEEP_S = EXPLAINED_KEEP_S + 60
FLEET_KEEP_S = PLACE_KEEP_S + 30
_WINDOW = "1m"
_LABELS = {"derived_from": "state", "route": "sre"}
_SHARE = "{{ $value | humanizePercentage }}"
_FLEET_PANEL = "Error ratio over time"


def outage_alerts() -> tuple[Alert, ...]:
    """Return the outages, and the alerts that fold other alerts into them."""
    fleet = (
        _explains_fleet("region"),
        _explains_fleet("model"),
        _two_explain("region", ()),
        _two_explain("model", ()),
        _region_and_model_explain(),
    )
    region = _model_explains_region(), _two_explain("model", ("region",))
    model = _region_explains_model(), _two_explain("region", ("model",))
    return (
        _outage("fleet", (), fleet),
        _outage("region", ("region",), region),
        _outage("model", ("model",), model),
        _cell_outage(),
        *(_explained_burn(window, keep_s) for window, keep_s in _BURN_KEEP_S.items()),
        _explained_volume(),
    )


def _down(scope: str, by: tuple[str, ...]) -> str:
    """Return PromQL for the share of successes of the last minute, of places that are down."""
    matchers = {"scope": any_of((scope,)), "window": any_of((_WINDOW,))}
    ratio = newest(catalogue.AVAILABILITY_RATIO, matchers, by)
    enough = newest(catalogue.WINDOW_ELIGIBLE_REQUESTS, matchers, by)
    return f"{ratio} < {OUTAGE_BELOW}\nand {enough} >= {OUTAGE_MIN_REQUESTS}"


def _fleet_down() -> str:
    """Return PromQL for the share of successes of the last minute, of a fleet that is down.

    Also if most requests are of three or more places that are down. A minute after such a fault the
    fleet's own share is below the limit too; but by then the places would have paged.
    """
    ratio = newest(
        catalogue.AVAILABILITY_RATIO,
        {"scope": any_of(("fleet",)), "window": any_of((_WINDOW,))},
        ("scope",),
    )
    downs = {part: f"({_down(part, (part,))})" for part in ("region", "model")}
    inside = " or ".join(
        f"({eligible(CELL_LABELS)} and {on(part)} {down})" for part, down in downs.items()
    )
    most = f"{total_of(inside)} > {OUTAGE_BELOW} * {eligible(())}"
    count = aggregate("count", " or ".join(downs.values()), INSTALLATION)
    return (
        f"({_down('fleet', ('scope',))}"
        f"\nor {ratio} and {on()} ({most}) and {on()} ({count} >= {MANY_PLACES}))"
    )


def _nearly_all(part: str, whole: str, by: tuple[str, ...]) -> str:
    """Return PromQL for the parts that have nearly all of their `whole`, which has labels `by`."""
    return f"{part} > {on(*by)} group_left () ({number(EXPLAINS_ABOVE)} * {whole})"


def _explains_fleet(part: str) -> str:
    """Return PromQL for regions, or models, that are down and explain the failures of the fleet.

    A place that has nearly all of the traffic explains no more than the fleet itself.
    """
    by = (part,)
    return (
        f"{_nearly_all(failures(by), failures(()), ())} and {on(part)} ({_down(part, by)})"
        f" unless {_nearly_all(eligible(by), eligible(()), ())}"
    )


def _model_explains_region() -> str:
    """Return PromQL for models that are down and explain the failures of a region, by both.

    If the region serves hardly any other model, the region is the better name, unless the model
    is hardly served elsewhere either.
    """
    every = eligible(CELL_LABELS)
    return (
        f"{_nearly_all(failures(CELL_LABELS), failures(('region',)), ('region',))}"
        f" and {on('model')} ({_down('model', ('model',))})"
        f" unless ({_nearly_all(every, eligible(('region',)), ('region',))}"
        f" unless {_nearly_all(every, eligible(('model',)), ('model',))})"
    )


def _region_explains_model() -> str:
    """Return PromQL for regions that are down and explain the failures of a model, by both."""
    return (
        f"{_nearly_all(failures(CELL_LABELS), failures(('model',)), ('model',))}"
        f" and {on('region')} ({_down('region', ('region',))})"
        f" unless ({_model_explains_region()})"
    )


def _two_explain(part: str, of: tuple[str, ...]) -> str:
    """Return PromQL for the fleet, a region or a model that only two of its parts bring down.

    The parts (regions or models that are down) have nearly all of its failures, and most requests
    of the others succeed: otherwise two places fail by chance a little more than the rest.
    """
    by = (part, *of)
    worst = largest_two(f"({failures(by)} and {on(part)} ({_down(part, (part,))}))", of)
    requests = f"{eligible(by)} and {on(*by)} {worst}"
    return _rest_is_well(
        f"({failures(of)} - {total_of(worst, of)})",
        failures(of),
        f"({eligible(of)} - {total_of(requests, of)})",
    )


def _region_and_model_explain() -> str:
    """Return PromQL for a region and a model that together bring the fleet down, by both.

    Both contain the requests of that model in that region, which must not count twice.
    """

    def rest(count: Callable[[tuple[str, ...]], str]) -> str:
        whole, cells = count(()), count(CELL_LABELS)
        region, model = (
            f"({count((part,))} and {on(part)} ({_down(part, (part,))}))"
            for part in ("region", "model")
        )
        return (
            f"({cells} + {on()} group_left () {whole}"
            f" - {on('region')} group_left () {region} - {on('model')} group_left () {model})"
        )

    every = f"(0 * {failures(CELL_LABELS)} + {on()} group_left () {failures(())})"
    return _rest_is_well(rest(failures), every, rest(eligible))


def _rest_is_well(failed: str, every: str, requests: str) -> str:
    """Return PromQL for places whose failures are elsewhere than in this rest of their requests.

    `failed`: failures of the rest. `every`: all failures. `requests`: those of the rest.
    """
    few = number(1 - EXPLAINS_ABOVE)
    return f"{failed} < {few} * {every} and {failed} < {OUTAGE_BELOW} * {requests}"


def _outage(scope: str, by: tuple[str, ...], unless: Iterable[str]) -> Alert:
    """Return the alert of the last minute; budgets burn over an hour."""
    where = "".join(f" of {label} {{{{ $labels.{label} }}}}" for label in by)
    if scope == "region":
        where = " in region {{ $labels.region }}"
    down = _down(scope, ("scope", *by)) if by else _fleet_down()
    alert = _page(
        where,
        scope,
        down + "".join(f"\nunless {on(*by)} ({part})" for part in unless),
        f"Over the last minute {_SHARE} of the requests{where} that count for availability "
        "succeeded, fewer than half.",
        _PLACE_FOR_S if by else _FLEET_FOR_S,
        PLACE_KEEP_S if by else FLEET_KEEP_S,
        Read(scope, _WINDOW),
    )
    return alert if by else _of_fleet(alert)


def _of_fleet(alert: Alert) -> Alert:
    """Return the fleet's alert with texts that are true also before half of its requests fail."""
    few = f"{{{{ if lt $value {OUTAGE_BELOW} }}}}"
    return replace(
        alert,
        summary=f"{few}Most requests fail{{{{ else }}}}Most requests are in places that are down"
        f"{{{{ end }}}}: {_SHARE} succeed",
        description=f"Over the last minute {_SHARE} of the requests that count for availability "
        f"succeeded{few}, fewer than half.{{{{ else }}}}. At least {MANY_PLACES} regions or models "
        "are down, and most requests of the last 5m were theirs.{{ end }}",
    )


def _cell_down() -> str:
    """Return PromQL for the share of successes of one model in one region, if it is down.

    Its window is longer than that of regions and models. So that it ends no later than their
    alerts, the region's last minute must still fail as fast as the window did, less a sixth. A
    place that hardly ever succeeded has not recovered if its requests stay away.
    """
    last_minute = {"scope": any_of(("region",)), "window": any_of((_WINDOW,))}
    ratio, count = (
        newest(spec, last_minute, ("region",))
        for spec in (catalogue.AVAILABILITY_RATIO, catalogue.WINDOW_ELIGIBLE_REQUESTS)
    )
    every, failed = eligible(CELL_LABELS), failures(CELL_LABELS)
    share = f"({every} - {failed}) / {every}"
    return (
        f"{share} < {OUTAGE_BELOW}\nand {every} >= {CELL_MIN_REQUESTS}"
        f"\nand ({failed} <= {on('region')} group_left () (6 * (1 - {ratio}) * {count})"
        f" or {share} < {number(1 - EXPLAINS_ABOVE)})"
    )


def _cell_outage() -> Alert:
    """Return the alert on one model in one region, which a large fleet does not show elsewhere."""
    where = " of model {{ $labels.model }} in region {{ $labels.region }}"
    return _page(
        where,
        CELL,
        _cell_down(),
        f"Over the last {CELL_WINDOW} {_SHARE} of the requests{where} that count for "
        "availability succeeded, fewer than half; the model as a whole, and the region as a whole, "
        "may look well.",
        10,
        EXPLAINED_KEEP_S,
    )


def _affected(scope: str) -> str:
    """Return the template for the share of the traffic of a place; empty for the fleet."""
    if scope == "fleet":
        return ""
    if scope == CELL:
        return traffic_share(CELL_WINDOW, *CELL_LABELS, scope="'series'")
    return traffic_share(_WINDOW, scope, scope=f"'{scope}'")


def _page(
    where: str,
    scope: str,
    expr: str,
    description: str,
    for_s: int,
    keep_firing_s: int,
    *reads: Read,
) -> Alert:
    return Alert(
        name="TokenpulseOutage",
        severity="page",
        expr=expr,
        summary=f"Most requests{where} fail: {_SHARE} succeed",
        description=description,
        value=f"{_SHARE} succeed",
        target="at least 50% at any time",
        for_s=for_s,
        keep_firing_s=keep_firing_s,
        labels={**_LABELS, "scope": scope},
        affected=_affected(scope),
        customers=customers_affected(),
        link=REQUESTS_OF_PLACE if scope != "fleet" else dashboard("live", panel=_FLEET_PANEL),
        reads=(*reads, Read("series", CELL_WINDOW)),
    )


def _explained_burn(window: str, keep_s: int) -> Alert:
    """Return the alert that holds while places that are down have nearly all failures.

    It goes to no person; while it fires, Alertmanager sends no page about burn rates of the
    fleet.
    """
    every = failures(CELL_LABELS)
    ill = " or ".join(
        f"({every} and {on(*dimensions)} ({down}))"
        for dimensions, down in (
            (CELL_LABELS, _cell_down()),
            (("region",), _down("region", ("region",))),
            (("model",), _down("model", ("model",))),
        )
    )
    fleet = _down("fleet", ())
    share = number(EXPLAINS_ABOVE)
    return _explanation(
        "burn",
        f"{total_of(ill)} / {failures(())} > {share}\nor {fleet}",
        "Places that are down explain the burn rate of the fleet",
        keep_s,
        window=window,
    )


def _explained_volume() -> Alert:
    """Return the alert that holds while failed requests, not missing ones, cost the tokens."""
    matchers = {"scope": any_of(("fleet",)), "window": any_of((CELL_WINDOW,))}
    ratio = newest(catalogue.AVAILABILITY_RATIO, matchers)
    enough = newest(catalogue.WINDOW_ELIGIBLE_REQUESTS, matchers)
    return _explanation(
        "volume",
        f"{ratio} < {OUTAGE_BELOW}\nand {enough} >= {OUTAGE_MIN_REQUESTS}",
        "Failed requests explain the low token volume",
    )


def _explanation(
    explains: str, expr: str, summary: str, keep_s: int = EXPLAINED_KEEP_S, **labels: str
) -> Alert:
    return Alert(
        name="TokenpulseOutageExplains",
        severity="none",
        expr=expr,
        summary=summary,
        description="Sent to no person. While it fires, Alertmanager sends no second page for the "
        "same fault.",
        value=_SHARE,
        target="silent without an outage",
        keep_firing_s=keep_s,
        labels={**_LABELS, "explains": explains, **labels},
        link=dashboard("live"),
        reads=(Read("series", CELL_WINDOW), Read("fleet", CELL_WINDOW), Read("fleet", _WINDOW)),
    )
