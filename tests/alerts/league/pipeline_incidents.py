"""Incidents of Tokenpulse itself, and several faults at once."""

from collections.abc import Iterator
from typing import Any

from tests.alerts.league.incident import (
    BURN,
    CACHE,
    HALTED,
    HOUR_S,
    QUARTER_S,
    TTFT,
    VOLUME,
    LeagueIncident,
    Phase,
    lasting,
    outage,
    page,
    waiting,
)
from tests.alerts.league.pipeline import ALL, PARTITIONS, PipelineFault
from tests.alerts.league.traffic import Fault


def _during(lasts_s: int, kind: str, *partitions: int, **more: Any) -> PipelineFault:
    return PipelineFault(kind, end_s=lasts_s, partitions=partitions or ALL, **more)


def pipeline_incidents() -> Iterator[LeagueIncident]:
    long = lasting(600, waiting(PARTITIONS))
    healthy = lasting(600)
    yield LeagueIncident(
        "one of four workers dies",
        lasting(600, waiting(2)),
        (page("DataStale", cause="worker"),),
        pipeline=(_during(600, "dead", 0, 1),),
    )
    yield LeagueIncident(
        "a worker restarts in 20 s", lasting(20, waiting(2)), pipeline=(_during(20, "dead", 0, 1),)
    )
    yield LeagueIncident(
        "all workers die",
        long,
        (page("DataStale", cause="workers"),),
        pipeline=(_during(600, "dead"),),
    )
    # The workers claim the last partitions 12 s after the first: a rebalance of the group.
    yield LeagueIncident(
        "all workers die, and return one after another",
        lasting(612, waiting(PARTITIONS)),
        (page("DataStale", cause="workers"),),
        pipeline=(
            _during(600, "dead", *ALL[: PARTITIONS // 2]),
            _during(612, "dead", *ALL[PARTITIONS // 2 :]),
        ),
    )
    yield LeagueIncident(
        "all workers restart in 20 s",
        lasting(20, waiting(PARTITIONS)),
        pipeline=(_during(20, "dead"),),
    )
    yield LeagueIncident(
        "Redis does not answer",
        long,
        (page("DataStale", cause="state"),),
        pipeline=(_during(600, "redis"),),
    )
    yield LeagueIncident(
        "Redis restarts in 10 s", lasting(10, waiting(PARTITIONS)), pipeline=(_during(10, "redis"),)
    )
    yield LeagueIncident(
        "Redis takes seconds to give its time", healthy, pipeline=(_during(600, "slow_time"),)
    )
    yield LeagueIncident(
        "Kafka does not answer",
        long,
        (page("DataStale", cause="broker"),),
        pipeline=(_during(600, "broker"),),
    )
    yield LeagueIncident(
        "Kafka restarts in 15 s",
        lasting(20, waiting(PARTITIONS)),
        pipeline=(_during(15, "broker"),),
    )
    yield LeagueIncident(
        "the exporter is stuck",
        long,
        (page("DataStale", cause="exporter"),),
        pipeline=(_during(600, "stuck_exporter"),),
    )
    yield LeagueIncident(
        "no exporter answers",
        healthy,
        (page("ExporterDown", cause="down"),),
        pipeline=(_during(600, "no_exporter"),),
    )
    yield LeagueIncident(
        "the exporter restarts in 10 s", healthy, pipeline=(_during(10, "no_exporter"),)
    )
    yield LeagueIncident(
        "the exporter's page is too long",
        healthy,
        (page("ScrapeLimit", cause="samples"),),
        pipeline=(_during(600, "page_rejected"),),
    )
    yield LeagueIncident(
        "a partition is halted",
        lasting(600, waiting(1)),
        (HALTED,),
        pipeline=(_during(600, "halted", 3, reason="store_policy"),),
    )
    yield LeagueIncident(
        "two partitions are halted for one reason",
        lasting(600, waiting(2)),
        (HALTED,),
        pipeline=(_during(600, "halted", 3, 4, reason="store_policy"),),
    )
    yield LeagueIncident(
        "a partition falls behind",
        healthy,
        (page("DataStale", cause="behind"),),
        180,
        (_during(600, "behind", 5),),
    )
    yield LeagueIncident(
        "Redis loses the state of a partition",
        healthy,
        (page("StateLost"),),
        pipeline=(_during(300, "lost_state", 2),),
    )
    yield LeagueIncident(
        "Kafka deletes records before they are counted",
        healthy,
        (page("RecordsLost"),),
        pipeline=(_during(300, "lost_records", 2, amount=500),),
    )
    for kind, cause, text in (
        ("rules_fail", "evaluation", "rules of Prometheus fail"),
        ("delivery_fails", "delivery", "PagerDuty rejects the messages"),
        ("sending_fails", "sending", "Prometheus does not reach one of two Alertmanagers"),
        ("no_alertmanager", "no_alertmanager", "one of two Prometheus finds no Alertmanager"),
    ):
        yield LeagueIncident(
            text,
            healthy,
            (page("AlertingFails", cause=cause),),
            240,
            (_during(600, kind),),
        )


def of_intake() -> Iterator[LeagueIncident]:
    """Yield faults of the intake; all requests come by it."""
    none = Fault("never")
    down, stuck = page("IntakeDown", cause="down"), page("IntakeDown", cause="delivery")
    yield LeagueIncident(
        "no intake answers",
        lasting(600, none),
        (down,),
        90,
        (_during(600, "no_intake"),),
    )
    yield LeagueIncident(
        "the intake restarts in 20 s",
        lasting(20, none),
        pipeline=(_during(20, "no_intake"),),
    )
    yield LeagueIncident(
        "Kafka confirms no event of the intake",
        lasting(600, none),
        (stuck,),
        120,
        (_during(600, "intake_stuck"),),
    )
    yield LeagueIncident(
        "no intake answers for ten minutes, and no request arrives for twenty",
        lasting(1_200, none),
        (down, VOLUME),
        690,
        (_during(600, "no_intake"),),
    )


def not_counted() -> Iterator[LeagueIncident]:
    """Yield faults of producers, whose records arrive and are not counted."""
    refused = page("RecordsRefused")
    for share, text in ((1.0, "all"), (0.9, "nine tenths of the"), (0.7, "seven tenths of the")):
        yield LeagueIncident(
            f"{text} records are rejected",
            lasting(600, Fault("absent", share)),
            (refused,),
            200,
            (
                _during(600, "uncounted", amount=share),
                _during(600, "refused", reason="not_json", amount=20 * share),
            ),
        )
    yield LeagueIncident(
        "all records are rejected, and the partitions halt",
        lasting(600, Fault("never")),
        (page("PartitionHalted", reason="dead_letters"),),
        60,
        (
            _during(600, "uncounted", amount=1.0),
            _during(40, "refused", reason="not_json", amount=20),
            PipelineFault("halted", 40, 600, reason="dead_letters"),
        ),
    )
    yield LeagueIncident(
        "all records are duplicates",
        lasting(600, Fault("never")),
        (page("NothingCounted"),),
        225,
        (_during(600, "uncounted", amount=1.0), _during(600, "duplicates", amount=20)),
    )
    yield LeagueIncident(
        "5 % of the records are rejected",
        lasting(600, Fault("absent", 0.05)),
        pipeline=(
            _during(600, "uncounted", amount=0.05),
            _during(600, "refused", reason="not_json", amount=1),
        ),
    )


def without_traffic() -> Iterator[LeagueIncident]:
    """Yield faults of the pipeline while no request arrives: the volume says nothing then."""
    none = Fault("never")
    for text, cause, fault in (
        ("a worker dies", "worker", _during(600, "dead", 0, 1)),
        ("two of four workers die", "worker", _during(600, "dead", 0, 1, 2, 3)),
        ("Kafka does not answer a worker", "broker", _during(600, "broker", 0, 1)),
        ("all workers die", "workers", _during(600, "dead")),
    ):
        yield LeagueIncident(
            f"{text}, and no request arrives",
            lasting(600, none),
            (page("DataStale", cause=cause),),
            pipeline=(fault,),
        )
    yield LeagueIncident(
        "a worker is dead for ten minutes, and no request arrives for twenty",
        lasting(1_200, none),
        (page("DataStale", cause="worker"), VOLUME),
        690,
        (_during(600, "dead", 0, 1),),
    )
    # One partition of eight has too few records to explain the loss.
    yield LeagueIncident(
        "a partition is halted, and no request arrives",
        lasting(600, none),
        (HALTED, VOLUME),
        300,
        (_during(600, "halted", 3, reason="store_policy"),),
    )


def combinations() -> Iterator[LeagueIncident]:
    eu, ap = Fault("failing", region="eu"), Fault("failing", region="ap")
    large, mini = Fault("failing", model="large"), Fault("failing", model="mini")
    dead, worker = _during(600, "dead", 0, 1), page("DataStale", cause="worker")
    eu_page, ap_page = outage("region", region="eu"), outage("region", region="ap")
    mini_page = outage("model", model="mini")
    yield LeagueIncident(
        "a worker dies, and region eu fails",
        lasting(600, waiting(2), eu),
        (worker, eu_page),
        75,
        (dead,),
    )
    yield LeagueIncident(
        "a worker dies, and all fail",
        lasting(600, waiting(2), Fault("failing")),
        (worker, outage()),
        75,
        (dead,),
    )
    yield LeagueIncident(
        "a partition is halted, and all fail",
        lasting(600, waiting(1), Fault("failing")),
        (HALTED, outage()),
        75,
        (_during(600, "halted", 3, reason="store_policy"),),
    )
    yield LeagueIncident(
        "all workers die while model large fails",
        lasting(600, waiting(PARTITIONS)),
        (page("DataStale", cause="workers"),),
        pipeline=(_during(600, "dead"),),
    )
    yield LeagueIncident(
        "all fail, and five minutes later no exporter answers",
        lasting(600, Fault("failing")),
        (outage(), page("ExporterDown", cause="down")),
        360,
        (PipelineFault("no_exporter", 300, 600),),
    )
    yield LeagueIncident(
        "90 % of the regions us and ap fail",
        lasting(QUARTER_S, Fault("failing", 0.9, region="us"), Fault("failing", 0.9, region="ap")),
        (outage("region", region="us"), ap_page),
        75,
    )
    yield LeagueIncident(
        "region ap and model large fail",
        lasting(QUARTER_S, ap, large),
        (ap_page, outage("model", model="large")),
        75,
    )
    small, us = Fault("failing", model="small"), Fault("failing", region="us")
    for text, faults, pages in (
        ("regions eu and us fail", (eu, us), (eu_page, outage("region", region="us"))),
        (
            "models large and small fail",
            (large, small),
            (outage("model", model="large"), outage("model", model="small")),
        ),
        (
            "region us and model large fail",
            (us, large),
            (outage("region", region="us"), outage("model", model="large")),
        ),
    ):
        yield LeagueIncident(text, lasting(QUARTER_S, *faults), pages, 75)
    yield LeagueIncident(
        "region ap and model mini fail", lasting(QUARTER_S, ap, mini), (ap_page, mini_page), 75
    )
    yield LeagueIncident(
        "region eu fails, then region us",
        (Phase(600, (eu,)), Phase(600, (Fault("failing", region="us"),))),
        (eu_page, outage("region", region="us")),
        675,
    )
    yield LeagueIncident(
        "5 % of all fail, and 25 minutes later region ap",
        (Phase(1_500, (Fault("failing", 0.05),)), Phase(600, (Fault("failing", 0.05), ap))),
        (BURN, ap_page),
        1_590,
    )
    yield LeagueIncident(
        "region ap is slow, and model mini fails",
        lasting(QUARTER_S, Fault("slow", region="ap"), mini),
        (TTFT, mini_page),
        300,
    )
    yield LeagueIncident(
        "region eu fails, and the cache is empty",
        lasting(HOUR_S, eu, Fault("cold")),
        (eu_page, CACHE),
        3_000,
    )
    yield LeagueIncident(
        "the cache is empty, and so all are late",
        lasting(HOUR_S, Fault("cold"), Fault("slow")),
        (TTFT, CACHE),
        2_700,
    )
