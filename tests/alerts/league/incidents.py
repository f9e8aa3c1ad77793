"""Incidents, and the pages that each must cause: at least these, and no other.

Times are seconds after the start of the incident.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.alerts.league.pipeline import ALL, PARTITIONS, PipelineFault
from tests.alerts.league.traffic import RATE, Fault

# Of healthy traffic behind the last phase, in which no page may come: as long as the failures of
# an outage stay in the windows of the burn rates, or those of a pipeline in its counters.
_RECOVERY_S, _PIPELINE_RECOVERY_S = 2_400, 1_000


def _lost(partitions: int) -> Fault:
    """Return the part of the traffic that waits in Kafka while some partitions are not read."""
    return Fault("absent", partitions / PARTITIONS)


_WAITING = {_lost(partitions) for partitions in (1, 2, PARTITIONS)}
Page = dict[str, str]  # labels of the group of the page, those that the incident decides


@dataclass(frozen=True, slots=True)
class Phase:
    """Time in which the faults of requests stay the same; a multiple of ten seconds."""

    lasts_s: int
    faults: tuple[Fault, ...] = ()
    times: float = 1.0  # as much traffic as usual


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

    @property
    def begin_recovery_s(self) -> int:
        return sum(phase.lasts_s for phase in self.phases)

    @property
    def end_s(self) -> int:
        """Return the end of the recovery."""
        return self.begin_recovery_s + (_PIPELINE_RECOVERY_S if self.pipeline else _RECOVERY_S)

    @property
    def counted_later(self) -> tuple[Phase, ...] | None:
        """Return the phases with the records that waited in Kafka; None if none did."""
        if not any(fault in _WAITING for phase in self.phases for fault in phase.faults):
            return None
        return tuple(
            Phase(phase.lasts_s, tuple(fault for fault in phase.faults if fault not in _WAITING))
            for phase in self.phases
        )


def page(name: str, **labels: str) -> Page:
    """Return the labels of a page."""
    return {"alertname": f"Tokenpulse{name}", **labels}


def outage(scope: str = "fleet", **place: str) -> Page:
    """Return the labels of the page about an outage."""
    return page("Outage", scope=scope, **place)


BURN = page("ErrorBudgetBurn", objective="uptime")
TTFT = page("TtftHigh", objective="ttft-p95")
VOLUME = page("TokenVolumeDrop", objective="token-volume")
HALTED = page("PartitionHalted", reason="store_policy")
CACHE = page("CacheHitLow", objective="cache-hit")
_QUARTER_S, _HALF_S, _HOUR_S = 900, 1_800, 3_600


def _of(lasts_s: int, *faults: Fault) -> tuple[Phase, ...]:
    return (Phase(lasts_s, faults),)


def _outages() -> Iterator[Incident]:
    yield Incident("all requests fail", _of(_QUARTER_S, Fault("failing")), (outage(),))
    yield Incident("80 % of all time out", _of(_QUARTER_S, Fault("timeout", 0.8)), (outage(),), 90)
    yield Incident("60 % of all fail", _of(_QUARTER_S, Fault("failing", 0.6)), (outage(),), 90)
    yield Incident("all fail for one minute", _of(60, Fault("failing")), (outage(),))
    for region, part in (("eu", "half"), ("us", "a third"), ("ap", "a seventh")):
        yield Incident(
            f"region {region}, {part} of the traffic, fails",
            _of(_QUARTER_S, Fault("failing", region=region)),
            (outage("region", region=region),),
            75,
        )
    yield Incident(
        "60 % of region us fail",
        _of(_QUARTER_S, Fault("failing", 0.6, region="us")),
        (outage("region", region="us"),),
        90,
    )
    for model, part in (("large", "half"), ("small", "a third"), ("mini", "a fifth")):
        yield Incident(
            f"model {model}, {part} of the traffic, fails",
            _of(_QUARTER_S, Fault("failing", model=model)),
            (outage("model", model=model),),
            75,
        )
    yield Incident(
        "60 % of model large fail",
        _of(_QUARTER_S, Fault("failing", 0.6, model="large")),
        (outage("model", model="large"),),
        90,
    )
    for model, region in (("small", "us"), ("small", "ap"), ("mini", "ap")):
        yield Incident(
            f"model {model} fails in region {region}",
            _of(_QUARTER_S, Fault("failing", model=model, region=region)),
            (outage("model_region", model=model, region=region),),
            240,
        )
    eu = Fault("failing", region="eu")
    yield Incident(
        "region eu fails for an hour", _of(_HOUR_S, eu), (outage("region", region="eu"),)
    )
    yield Incident(
        "region eu fails for 2 minutes, three times in 15",
        (Phase(120, (eu,)), Phase(180), Phase(120, (eu,)), Phase(180), Phase(120, (eu,))),
        (outage("region", region="eu"),),
    )


def _errors() -> Iterator[Incident]:
    yield Incident("10 % of all fail", _of(_QUARTER_S, Fault("failing", 0.1)), (BURN,), 600)
    yield Incident("5 % of all fail", _of(_HALF_S, Fault("failing", 0.05)), (BURN,), 1_200)
    yield Incident(
        "2 % of all fail for an hour", _of(_HOUR_S, Fault("failing", 0.02)), (BURN,), 2_700
    )
    slow = _of(4 * _HOUR_S, Fault("failing", 0.01))
    yield Incident("1 % of all fail for four hours: a slow burn", slow, (BURN,), 13_500)
    yield Incident("0.5 % of all fail for two hours", _of(2 * _HOUR_S, Fault("failing", 0.005)))
    yield Incident("0.05 % of all fail for two hours", _of(2 * _HOUR_S, Fault("failing", 0.0005)))
    yield Incident("5 % of all fail for one minute", _of(60, Fault("failing", 0.05)))
    part = Fault("failing", 0.4, region="eu")
    yield Incident("40 % of region eu fail", _of(_QUARTER_S, part), (BURN,), 400)
    few = Fault("failing", 0.2, region="ap")
    yield Incident("20 % of region ap fail", _of(_HOUR_S, few), (BURN,), 2_100)
    yield Incident(
        "the largest customer's requests fail",
        _of(_QUARTER_S, Fault("failing", customer="acme")),
        (BURN,),
        400,
    )
    yield Incident(
        "a tenth of the customers' requests fail",
        _of(_QUARTER_S, Fault("failing", customer="customer-3")),
        (BURN,),
        600,
    )
    yield Incident(
        "model small answers 404",
        _of(_QUARTER_S, Fault("not_found", 0.99, model="small")),
        (page("ClientErrorsJump", model="small"),),
        420,
    )
    yield Incident(
        "region ap answers 404",
        _of(_QUARTER_S, Fault("not_found", 0.99, region="ap")),
        (page("ClientErrorsJump", region="ap"),),
        420,
    )
    yield Incident(
        "model small answers 429",
        _of(_QUARTER_S, Fault("rate_limited", 0.99, model="small")),
        (page("RateLimitedJump", model="small"),),
        420,
    )
    yield Incident(
        "the largest customer stops sending",
        _of(_HOUR_S, Fault("never", customer="acme")),
    )
    yield Incident(
        "one customer asks for a model that does not exist",
        _of(_QUARTER_S, Fault("not_found", customer="customer-3")),
    )
    yield Incident(
        "the largest customer is rate limited",
        _of(_QUARTER_S, Fault("rate_limited", 0.5, customer="acme")),
    )


def _latency() -> Iterator[Incident]:
    yield Incident("all first tokens are late", _of(_QUARTER_S, Fault("slow")), (TTFT,))
    yield Incident(
        "10 % of first tokens are late", _of(_QUARTER_S, Fault("slow", 0.1)), (TTFT,), 300
    )
    yield Incident("3 % of first tokens are late", _of(_HALF_S, Fault("slow", 0.03)))
    yield Incident("all are late for ten seconds", _of(10, Fault("slow")))
    yield Incident("all are late for an hour", _of(_HOUR_S, Fault("slow")), (TTFT,))
    yield Incident("region ap is slow", _of(_QUARTER_S, Fault("slow", region="ap")), (TTFT,), 300)
    yield Incident("model mini is slow", _of(_QUARTER_S, Fault("slow", model="mini")), (TTFT,), 200)
    yield Incident(
        "model small is slow in region ap",
        _of(_QUARTER_S, Fault("slow", model="small", region="ap")),
        (page("ModelSlowInRegion", model="small", region="ap", objective="ttft-p95"),),
        300,
    )
    yield Incident(
        "output tokens are slow",
        _of(_QUARTER_S, Fault("slow_tokens")),
        (page("TpotHigh", objective="tpot-p95"),),
    )


def _volume() -> Iterator[Incident]:
    yield Incident("no request arrives", _of(_QUARTER_S, Fault("never")), (VOLUME,), 300)
    yield Incident("a tenth of the traffic", _of(_QUARTER_S, Fault("absent", 0.9)), (VOLUME,), 360)
    yield Incident("half of the traffic", _of(_HALF_S, Fault("absent", 0.5)))
    yield Incident("no request of region ap", _of(_HALF_S, Fault("absent", region="ap")))
    yield Incident("no request of model large", _of(_HALF_S, Fault("absent", model="large")))
    yield Incident("three times the traffic", (Phase(_HALF_S, times=3.0),))
    yield Incident("an hour of healthy traffic", _of(_HOUR_S))
    yield Incident("a quiet hour, 1 request/s", _of(_HOUR_S), rate=1.0)
    quiet = "a quiet night, 1 request in 10 s"
    yield Incident(f"{quiet}: all fail", _of(_QUARTER_S, Fault("failing")), (BURN,), 200, rate=0.1)
    half = _of(_QUARTER_S, Fault("failing", 0.5))
    yield Incident(f"{quiet}: half fail", half, (BURN,), 300, rate=0.1)
    yield Incident(f"{quiet}: one fails", _of(20, Fault("failing")), rate=0.1)
    yield Incident(
        f"{quiet}: two are slow",
        _of(20, Fault("slow")),
        rate=0.1,
        is_known_failure=True,  # the percentile of 30 requests: 2 are more than 5 %
    )
    yield Incident(f"{quiet}: none arrives", _of(_HALF_S, Fault("never")), rate=0.1)


def _cache() -> Iterator[Incident]:
    yield Incident("the prompt cache is empty", _of(_HOUR_S, Fault("cold")), (CACHE,), 2_700)
    cold = _of(5_400, Fault("cold", 0.6))
    yield Incident("the hit ratio falls from 50 % to 20 %", cold, (CACHE,), 4_500)
    yield Incident("the hit ratio falls from 50 % to 35 %", _of(5_400, Fault("cold", 0.3)))
    yield Incident("the cache is empty for ten minutes", _of(600, Fault("cold")))
    yield Incident("cached tokens are no longer reported", _of(5_400, Fault("unreported")))


def _during(lasts_s: int, kind: str, *partitions: int, **more: Any) -> PipelineFault:
    return PipelineFault(kind, end_s=lasts_s, partitions=partitions or ALL, **more)


def _pipeline() -> Iterator[Incident]:
    long = _of(600, _lost(PARTITIONS))
    healthy = _of(600)
    yield Incident(
        "one of four workers dies",
        _of(600, _lost(2)),
        (page("DataStale", cause="worker"),),
        pipeline=(_during(600, "dead", 0, 1),),
    )
    yield Incident(
        "a worker restarts in 20 s", _of(20, _lost(2)), pipeline=(_during(20, "dead", 0, 1),)
    )
    yield Incident(
        "all workers die",
        long,
        (page("DataStale", cause="workers"),),
        pipeline=(_during(600, "dead"),),
    )
    yield Incident(
        "all workers restart in 20 s",
        _of(20, _lost(PARTITIONS)),
        pipeline=(_during(20, "dead"),),
    )
    yield Incident(
        "Redis does not answer",
        long,
        (page("DataStale", cause="state"),),
        pipeline=(_during(600, "redis"),),
    )
    yield Incident(
        "Redis restarts in 10 s", _of(10, _lost(PARTITIONS)), pipeline=(_during(10, "redis"),)
    )
    yield Incident(
        "Kafka does not answer",
        long,
        (page("DataStale", cause="broker"),),
        pipeline=(_during(600, "broker"),),
    )
    yield Incident(
        "Kafka restarts in 15 s", _of(20, _lost(PARTITIONS)), pipeline=(_during(15, "broker"),)
    )
    yield Incident(
        "the exporter is stuck",
        long,
        (page("DataStale", cause="exporter"),),
        pipeline=(_during(600, "stuck_exporter"),),
    )
    yield Incident(
        "no exporter answers",
        healthy,
        (page("ExporterDown", cause="down"),),
        pipeline=(_during(600, "no_exporter"),),
    )
    yield Incident("the exporter restarts in 10 s", healthy, pipeline=(_during(10, "no_exporter"),))
    yield Incident(
        "the exporter's page is too long",
        healthy,
        (page("ScrapeLimit", cause="samples"),),
        pipeline=(_during(600, "page_rejected"),),
    )
    yield Incident(
        "a partition is halted",
        _of(600, _lost(1)),
        (HALTED,),
        pipeline=(_during(600, "halted", 3, reason="store_policy"),),
    )
    yield Incident(
        "two partitions are halted for one reason",
        _of(600, _lost(2)),
        (HALTED,),
        pipeline=(_during(600, "halted", 3, 4, reason="store_policy"),),
    )
    yield Incident(
        "a partition falls behind",
        healthy,
        (page("DataStale", cause="behind"),),
        180,
        (_during(600, "behind", 5),),
    )
    yield Incident(
        "Redis loses the state of a partition",
        healthy,
        (page("StateLost"),),
        pipeline=(_during(300, "lost_state", 2),),
    )
    yield Incident(
        "Kafka deletes records before they are counted",
        healthy,
        (page("RecordsLost"),),
        pipeline=(_during(300, "lost_records", 2, amount=500),),
    )
    rejected = {"reason": "not_json", "amount": 20}
    yield Incident(
        "a producer sends records that are all rejected",
        _of(600, Fault("never")),
        (page("NothingCounted"),),
        420,
        (_during(600, "silence"), _during(600, "refused", **rejected)),
        is_known_failure=True,  # the missing volume pages first, and both pages are true
    )
    yield Incident(
        "5 % of the records are rejected",
        _of(600, Fault("absent", 0.05)),
        pipeline=(_during(600, "refused", reason="not_json", amount=1),),
    )
    for kind, cause, text in (
        ("rules_fail", "evaluation", "rules of Prometheus fail"),
        ("delivery_fails", "delivery", "PagerDuty rejects the messages"),
        ("sending_fails", "sending", "Prometheus does not reach one of two Alertmanagers"),
    ):
        yield Incident(
            text,
            healthy,
            (page("AlertingFails", cause=cause),),
            240,
            (_during(600, kind),),
        )


def _combinations() -> Iterator[Incident]:
    eu, ap = Fault("failing", region="eu"), Fault("failing", region="ap")
    large, mini = Fault("failing", model="large"), Fault("failing", model="mini")
    dead, worker = _during(600, "dead", 0, 1), page("DataStale", cause="worker")
    eu_page, ap_page = outage("region", region="eu"), outage("region", region="ap")
    mini_page = outage("model", model="mini")
    yield Incident(
        "a worker dies, and region eu fails",
        _of(600, _lost(2), eu),
        (worker, eu_page),
        75,
        (dead,),
    )
    yield Incident(
        "a worker dies, and all fail",
        _of(600, _lost(2), Fault("failing")),
        (worker, outage()),
        75,
        (dead,),
    )
    yield Incident(
        "a partition is halted, and all fail",
        _of(600, _lost(1), Fault("failing")),
        (HALTED, outage()),
        75,
        (_during(600, "halted", 3, reason="store_policy"),),
    )
    yield Incident(
        "a worker dies, and no request arrives",
        _of(600, Fault("never")),
        (worker, VOLUME),
        360,
        (dead,),
        is_known_failure=True,  # a late partition silences missing traffic until it is back
    )
    yield Incident(
        "all workers die while model large fails",
        _of(600, _lost(PARTITIONS)),
        (page("DataStale", cause="workers"),),
        pipeline=(_during(600, "dead"),),
    )
    yield Incident(
        "all fail, and five minutes later no exporter answers",
        _of(600, Fault("failing")),
        (outage(), page("ExporterDown", cause="down")),
        360,
        (PipelineFault("no_exporter", 300, 600),),
    )
    yield Incident(
        "90 % of the regions us and ap fail",
        _of(_QUARTER_S, Fault("failing", 0.9, region="us"), Fault("failing", 0.9, region="ap")),
        (outage("region", region="us"), ap_page),
        75,
    )
    yield Incident(
        "region ap and model large fail",
        _of(_QUARTER_S, ap, large),
        (ap_page, outage("model", model="large")),
        75,
        is_known_failure=True,  # no place alone explains that most of the fleet fails
    )
    yield Incident(
        "region ap and model mini fail", _of(_QUARTER_S, ap, mini), (ap_page, mini_page), 75
    )
    yield Incident(
        "region eu fails, then region us",
        (Phase(600, (eu,)), Phase(600, (Fault("failing", region="us"),))),
        (eu_page, outage("region", region="us")),
        675,
    )
    yield Incident(
        "5 % of all fail, and 25 minutes later region ap",
        (Phase(1_500, (Fault("failing", 0.05),)), Phase(600, (Fault("failing", 0.05), ap))),
        (BURN, ap_page),
        1_590,
    )
    yield Incident(
        "region ap is slow, and model mini fails",
        _of(_QUARTER_S, Fault("slow", region="ap"), mini),
        (TTFT, mini_page),
        300,
    )
    yield Incident(
        "region eu fails, and the cache is empty",
        _of(_HOUR_S, eu, Fault("cold")),
        (eu_page, CACHE),
        3_000,
    )
    yield Incident(
        "the cache is empty, and so all are late",
        _of(_HOUR_S, Fault("cold"), Fault("slow")),
        (TTFT, CACHE),
        2_700,
    )


INCIDENTS = (
    *_outages(),
    *_errors(),
    *_latency(),
    *_volume(),
    *_cache(),
    *_pipeline(),
    *_combinations(),
)
