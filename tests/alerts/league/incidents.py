"""Incidents, and the pages that each must cause: at least these, and no other.

Times are seconds after the start of the incident.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.alerts.league.pipeline import PARTITIONS, PipelineFault
from tests.alerts.league.traffic import RATE, Fault

RECOVERY_S = 900  # of healthy traffic behind the last phase, in which no page may come
Page = dict[str, str]  # labels of the group of the page, those that the incident decides


@dataclass(frozen=True, slots=True)
class Phase:
    """Time in which the faults of requests stay the same; a multiple of ten seconds."""

    lasts_s: int
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident; each page must come within `within_s` of the start."""

    name: str
    phases: tuple[Phase, ...]
    pages: tuple[Page, ...] = ()
    within_s: int = 60
    pipeline: tuple[PipelineFault, ...] = ()
    rate: float = RATE
    is_known_failure: bool = False  # the rules do not page as they must; the table shows it


def page(name: str, **labels: str) -> Page:
    """Return the labels of a page."""
    return {"alertname": f"Tokenpulse{name}", **labels}


def outage(scope: str = "fleet", **place: str) -> Page:
    """Return the labels of the page about an outage."""
    return page("Outage", scope=scope, **place)


BURN = page("ErrorBudgetBurn", objective="uptime")
TTFT = page("TtftHigh", objective="ttft-p95")
VOLUME = page("TokenVolumeDrop", objective="token-volume")
CACHE = page("CacheHitLow", objective="cache-hit")
_QUARTER_S, _HALF_S, _HOUR_S = 900, 1_800, 3_600


def _of(lasts_s: int, *faults: Fault) -> tuple[Phase, ...]:
    return (Phase(lasts_s, faults),)


def _outages() -> Iterator[Incident]:
    yield Incident("all requests fail", _of(_QUARTER_S, Fault("failing")), (outage(),), 60)
    yield Incident(
        "region eu, half of the traffic, fails",
        _of(_QUARTER_S, Fault("failing", region="eu")),
        (outage("region", region="eu"),),
        60,
    )
    yield Incident(
        "model mini fails",
        _of(_QUARTER_S, Fault("failing", model="mini")),
        (outage("model", model="mini"),),
        60,
    )
    yield Incident(
        "model small fails in region us",
        _of(_QUARTER_S, Fault("failing", model="small", region="us")),
        (outage("model_region", model="small", region="us"),),
        240,
    )


def _errors() -> Iterator[Incident]:
    yield Incident("5 % of all requests fail", _of(_HALF_S, Fault("failing", 0.05)), (BURN,), 1_200)
    yield Incident("healthy traffic", _of(_HOUR_S))


def _latency() -> Iterator[Incident]:
    yield Incident("all first tokens are late", _of(_QUARTER_S, Fault("slow")), (TTFT,), 60)


def _volume() -> Iterator[Incident]:
    yield Incident("no request arrives", _of(_QUARTER_S, Fault("absent")), (VOLUME,), 300)


def _cache() -> Iterator[Incident]:
    yield Incident("the prompt cache is empty", _of(_HOUR_S, Fault("cold")), (CACHE,), 3_000)


def _pipeline() -> Iterator[Incident]:
    dead = PipelineFault("dead", end_s=_QUARTER_S, partitions=(0, 1))
    yield Incident(
        "one of four workers dies",
        _of(_QUARTER_S, Fault("absent", 2 / PARTITIONS)),
        (page("DataStale", cause="worker"),),
        60,
        (dead,),
    )


INCIDENTS = (
    *_outages(),
    *_errors(),
    *_latency(),
    *_volume(),
    *_cache(),
    *_pipeline(),
)
