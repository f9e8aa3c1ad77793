"""All incidents of the league, and those that concern only the requests."""

from collections.abc import Iterator

from tests.alerts.league.incident import (
    BURN,
    CACHE,
    HALF_S,
    HOUR_S,
    QUARTER_S,
    TTFT,
    VOLUME,
    LeagueIncident,
    Page,
    Phase,
    lasting,
    outage,
    page,
)
from tests.alerts.league.pipeline_incidents import (
    combinations,
    not_counted,
    of_intake,
    pipeline_incidents,
    without_traffic,
)
from tests.alerts.league.traffic import Fault


def _outages() -> Iterator[LeagueIncident]:
    yield LeagueIncident("all requests fail", lasting(QUARTER_S, Fault("failing")), (outage(),))
    yield LeagueIncident(
        "80 % of all time out", lasting(QUARTER_S, Fault("timeout", 0.8)), (outage(),), 90
    )
    yield LeagueIncident(
        "60 % of all fail", lasting(QUARTER_S, Fault("failing", 0.6)), (outage(),), 90
    )
    yield LeagueIncident("all fail for one minute", lasting(60, Fault("failing")), (outage(),))
    for region, part in (("eu", "half"), ("us", "a third"), ("ap", "a seventh")):
        yield LeagueIncident(
            f"region {region}, {part} of the traffic, fails",
            lasting(QUARTER_S, Fault("failing", region=region)),
            (outage("region", region=region),),
            75,
        )
    yield LeagueIncident(
        "60 % of region us fail",
        lasting(QUARTER_S, Fault("failing", 0.6, region="us")),
        (outage("region", region="us"),),
        90,
    )
    for model, part in (("large", "half"), ("small", "a third"), ("mini", "a fifth")):
        yield LeagueIncident(
            f"model {model}, {part} of the traffic, fails",
            lasting(QUARTER_S, Fault("failing", model=model)),
            (outage("model", model=model),),
            75,
        )
    yield LeagueIncident(
        "60 % of model large fail",
        lasting(QUARTER_S, Fault("failing", 0.6, model="large")),
        (outage("model", model="large"),),
        90,
    )
    for model, region in (("small", "us"), ("small", "ap"), ("mini", "ap")):
        yield LeagueIncident(
            f"model {model} fails in region {region}",
            lasting(QUARTER_S, Fault("failing", model=model, region=region)),
            (outage("model_region", model=model, region=region),),
            240,
        )
    eu = Fault("failing", region="eu")
    yield LeagueIncident(
        "region eu fails for an hour", lasting(HOUR_S, eu), (outage("region", region="eu"),)
    )
    yield LeagueIncident(
        "region eu fails for 2 minutes, three times in 15",
        (Phase(120, (eu,)), Phase(180), Phase(120, (eu,)), Phase(180), Phase(120, (eu,))),
        (outage("region", region="eu"),),
    )


def _many_places() -> Iterator[LeagueIncident]:
    """Yield outages of three or more places of a fleet of five regions."""

    def down(*regions: str) -> tuple[Fault, ...]:
        return tuple(Fault("failing", region=region) for region in regions)

    def pages(*regions: str) -> tuple[Page, ...]:
        return tuple(outage("region", region=region) for region in regions)

    yield LeagueIncident(
        "three of five regions, four fifths of the traffic, fail",
        lasting(QUARTER_S, *down("eu", "us", "ap")),
        (outage(),),
        is_wide=True,
    )
    yield LeagueIncident(
        "70 % of three of five regions fail",
        lasting(QUARTER_S, *(Fault("failing", 0.7, region=name) for name in ("eu", "us", "ap"))),
        (outage(),),
        90,
        is_wide=True,
    )
    yield LeagueIncident(
        "three of five regions, a third of the traffic, fail",
        lasting(QUARTER_S, *down("ap", "sa", "af")),
        pages("ap", "sa", "af"),
        75,
        is_wide=True,
    )
    yield LeagueIncident(
        "two of five regions, and model small in all of them, fail",
        lasting(QUARTER_S, *down("eu", "ap"), Fault("failing", model="small")),
        (outage(),),
        is_wide=True,
    )
    # Two of them explain the fleet's failures until the third has a tenth of those of five minutes.
    yield LeagueIncident(
        "three of five regions fail, one every five minutes",
        (Phase(300, down("eu")), Phase(300, down("eu", "us")), Phase(300, down("eu", "us", "ap"))),
        (*pages("eu", "us", "ap"), outage()),
        780,
        is_wide=True,
    )


def _errors() -> Iterator[LeagueIncident]:
    yield LeagueIncident(
        "10 % of all fail", lasting(QUARTER_S, Fault("failing", 0.1)), (BURN,), 600
    )
    yield LeagueIncident("5 % of all fail", lasting(HALF_S, Fault("failing", 0.05)), (BURN,), 1_200)
    yield LeagueIncident(
        "2 % of all fail for an hour", lasting(HOUR_S, Fault("failing", 0.02)), (BURN,), 2_700
    )
    slow = lasting(4 * HOUR_S, Fault("failing", 0.01))
    yield LeagueIncident("1 % of all fail for four hours: a slow burn", slow, (BURN,), 13_500)
    yield LeagueIncident(
        "0.5 % of all fail for two hours", lasting(2 * HOUR_S, Fault("failing", 0.005))
    )
    yield LeagueIncident(
        "0.05 % of all fail for two hours", lasting(2 * HOUR_S, Fault("failing", 0.0005))
    )
    yield LeagueIncident("5 % of all fail for one minute", lasting(60, Fault("failing", 0.05)))
    part = Fault("failing", 0.4, region="eu")
    yield LeagueIncident("40 % of region eu fail", lasting(QUARTER_S, part), (BURN,), 400)
    few = Fault("failing", 0.2, region="ap")
    yield LeagueIncident("20 % of region ap fail", lasting(HOUR_S, few), (BURN,), 2_100)
    yield LeagueIncident(
        "the largest customer's requests fail",
        lasting(QUARTER_S, Fault("failing", customer="acme")),
        (BURN,),
        400,
    )
    yield LeagueIncident(
        "a tenth of the customers' requests fail",
        lasting(QUARTER_S, Fault("failing", customer="customer-3")),
        (BURN,),
        600,
    )
    yield LeagueIncident(
        "model small answers 404",
        lasting(QUARTER_S, Fault("not_found", 0.99, model="small")),
        (page("ClientErrorsJump", model="small"),),
        420,
    )
    yield LeagueIncident(
        "region ap answers 404",
        lasting(QUARTER_S, Fault("not_found", 0.99, region="ap")),
        (page("ClientErrorsJump", region="ap"),),
        420,
    )
    yield LeagueIncident(
        "model small answers 429",
        lasting(QUARTER_S, Fault("rate_limited", 0.99, model="small")),
        (page("RateLimitedJump", model="small"),),
        420,
    )
    yield LeagueIncident(
        "the largest customer stops sending",
        lasting(HOUR_S, Fault("never", customer="acme")),
    )
    yield LeagueIncident(
        "one customer asks for a model that does not exist",
        lasting(QUARTER_S, Fault("not_found", customer="customer-3")),
    )
    yield LeagueIncident(
        "the largest customer is rate limited",
        lasting(QUARTER_S, Fault("rate_limited", 0.5, customer="acme")),
    )


def _latency() -> Iterator[LeagueIncident]:
    yield LeagueIncident("all first tokens are late", lasting(QUARTER_S, Fault("slow")), (TTFT,))
    yield LeagueIncident(
        "10 % of first tokens are late", lasting(QUARTER_S, Fault("slow", 0.1)), (TTFT,), 300
    )
    yield LeagueIncident("3 % of first tokens are late", lasting(HALF_S, Fault("slow", 0.03)))
    yield LeagueIncident("all are late for ten seconds", lasting(10, Fault("slow")))
    yield LeagueIncident("all are late for an hour", lasting(HOUR_S, Fault("slow")), (TTFT,))
    yield LeagueIncident(
        "region ap is slow", lasting(QUARTER_S, Fault("slow", region="ap")), (TTFT,), 300
    )
    yield LeagueIncident(
        "model mini is slow", lasting(QUARTER_S, Fault("slow", model="mini")), (TTFT,), 200
    )
    yield LeagueIncident(
        "model small is slow in region ap",
        lasting(QUARTER_S, Fault("slow", model="small", region="ap")),
        (page("ModelSlowInRegion", model="small", region="ap", objective="ttft-p95"),),
        300,
    )
    yield LeagueIncident(
        "output tokens are slow",
        lasting(QUARTER_S, Fault("slow_tokens")),
        (page("TpotHigh", objective="tpot-p95"),),
    )


def _volume() -> Iterator[LeagueIncident]:
    yield LeagueIncident("no request arrives", lasting(QUARTER_S, Fault("never")), (VOLUME,), 300)
    yield LeagueIncident(
        "a tenth of the traffic", lasting(QUARTER_S, Fault("absent", 0.9)), (VOLUME,), 360
    )
    yield LeagueIncident("half of the traffic", lasting(HALF_S, Fault("absent", 0.5)))
    yield LeagueIncident("no request of region ap", lasting(HALF_S, Fault("absent", region="ap")))
    yield LeagueIncident(
        "no request of model large", lasting(HALF_S, Fault("absent", model="large"))
    )
    yield LeagueIncident("three times the traffic", (Phase(HALF_S, times=3.0),))
    yield LeagueIncident("an hour of healthy traffic", lasting(HOUR_S))
    yield LeagueIncident("a quiet hour, 1 request/s", lasting(HOUR_S), rate=1.0)
    quiet = "a quiet night, 1 request in 10 s"
    yield LeagueIncident(
        f"{quiet}: all fail", lasting(QUARTER_S, Fault("failing")), (BURN,), 200, rate=0.1
    )
    half = lasting(QUARTER_S, Fault("failing", 0.5))
    yield LeagueIncident(f"{quiet}: half fail", half, (BURN,), 300, rate=0.1)
    yield LeagueIncident(f"{quiet}: one fails", lasting(20, Fault("failing")), rate=0.1)
    yield LeagueIncident(f"{quiet}: two are slow", lasting(20, Fault("slow")), rate=0.1)
    few = lasting(40, Fault("slow_tokens"))
    yield LeagueIncident(f"{quiet}: four write slowly", few, rate=0.1)
    tenth = lasting(HOUR_S, Fault("slow", 0.1))
    yield LeagueIncident(f"{quiet}: a tenth is slow", tenth, rate=0.1)
    yield LeagueIncident(
        f"{quiet}: all are slow", lasting(QUARTER_S, Fault("slow")), (TTFT,), 180, rate=0.1
    )
    yield LeagueIncident(f"{quiet}: none arrives", lasting(HALF_S, Fault("never")), rate=0.1)


def _cache() -> Iterator[LeagueIncident]:
    yield LeagueIncident(
        "the prompt cache is empty", lasting(HOUR_S, Fault("cold")), (CACHE,), 2_700
    )
    cold = lasting(5_400, Fault("cold", 0.6))
    yield LeagueIncident("the hit ratio falls from 50 % to 20 %", cold, (CACHE,), 4_500)
    yield LeagueIncident(
        "the hit ratio falls from 50 % to 35 %", lasting(5_400, Fault("cold", 0.3))
    )
    yield LeagueIncident("the cache is empty for ten minutes", lasting(600, Fault("cold")))
    yield LeagueIncident(
        "cached tokens are no longer reported", lasting(5_400, Fault("unreported"))
    )


INCIDENTS = (
    *_outages(),
    *_many_places(),
    *_errors(),
    *_latency(),
    *_volume(),
    *_cache(),
    *pipeline_incidents(),
    *of_intake(),
    *not_counted(),
    *without_traffic(),
    *combinations(),
)
