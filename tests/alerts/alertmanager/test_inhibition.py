"""Which alerts silence which, in the real Alertmanager with the shipped configuration."""

import pytest

from tests.support.alert_labels import (
    BURN,
    CACHE,
    DOWN,
    EXPLAINS,
    FLEET_BURN,
    HALTED,
    INCOMPLETE,
    INTAKE,
    JUMP,
    LAG,
    LARGE_IN_EU,
    LIMITED,
    NOT_COUNTED,
    OUTAGE,
    REFUSED,
    SILENT,
    SLOW,
    STALE,
    TTFT,
    UNDELIVERED,
    VOLUME,
)
from tests.support.alertmanager import Alertmanager, canonical, needs_alertmanager
from tests.support.servers import wait_until


@needs_alertmanager
@pytest.mark.parametrize(
    ("cause", "silenced", "loud"),
    [
        pytest.param(
            STALE,
            [TTFT, BURN | {"severity": "page"}, OUTAGE | {"scope": "fleet"}],
            [LAG, TTFT | {"job": "other"}],
            id="if no worker counts, all that is derived is untrue, in this Tokenpulse",
        ),
        pytest.param(
            STALE | {"cause": "worker", "partition": "0"},
            [STALE | {"cause": "behind", "partition": "0"}],
            [
                VOLUME,
                OUTAGE | {"scope": "region", "region": "eu"},
                BURN | {"severity": "page"},
                STALE | {"cause": "behind", "partition": "1"},
            ],
            id="one late partition leaves ratios true",
        ),
        pytest.param(
            STALE | {"cause": "state"},
            [
                STALE | {"cause": "exporter"},
                STALE,
                STALE | {"cause": "worker", "partition": "0"},
                {"alertname": "TokenpulseStoreErrors", "severity": "ticket"},
            ],
            [LAG],
            id="a Redis that does not answer stops all that needs it",
        ),
        pytest.param(
            DOWN | {"job": "tokenpulse-exporter"},
            [TTFT | {"job": "tokenpulse-exporter"}],
            [LAG, TTFT | {"job": "other"}],
            id="exporters that are all down silence their own numbers",
        ),
        pytest.param(
            DOWN | {"cause": "no_target"},
            [],
            [TTFT, VOLUME],
            id="a target that is not found is no proof",
        ),
        pytest.param(
            {"alertname": "TokenpulseExporterDown", "severity": "ticket", "cause": "some"},
            [],
            [TTFT],
            id="one exporter of two is enough to know",
        ),
        pytest.param(
            {"alertname": "TokenpulseScrapeLimit", "severity": "page", "cause": "samples"},
            [DOWN],
            [LAG],
            id="a page that is refused explains why no exporter answers",
        ),
        pytest.param(
            {"alertname": "TokenpulseStateLost", "severity": "page", "partition": "0"},
            [
                {"alertname": "TokenpulseRecordsLost", "severity": "page", "partition": "0"},
                INCOMPLETE | {"window": "1h"},
                STALE | {"cause": "behind", "partition": "0"},
            ],
            [{"alertname": "TokenpulseRecordsLost", "severity": "page", "partition": "1"}],
            id="what a lost state brings with it",
        ),
        pytest.param(
            UNDELIVERED | {"severity": "page", "integration": "slack"},
            [UNDELIVERED | {"severity": "ticket", "integration": "slack"}],
            [UNDELIVERED | {"severity": "ticket", "integration": "email"}],
            id="a receiver that gets no message needs no ticket on some of them",
        ),
        pytest.param(
            EXPLAINS | {"explains": "burn"},
            [FLEET_BURN],
            [
                BURN | {"severity": "page", "scope": "customer", "kind": "availability"},
                # {model: [large, small]} and {service_tier: priority}: parts of the fleet
                BURN | {"severity": "page", "scope": "model", "kind": "availability"},
                BURN | {"severity": "page", "scope": "service_tier", "kind": "availability"},
                FLEET_BURN | {"kind": "latency"},
                FLEET_BURN | {"kind": "errors"},
                BURN | {"severity": "ticket"},
                VOLUME,
            ],
            id="failures of places that are down explain the burn rate of the fleet",
        ),
        pytest.param(
            EXPLAINS | {"explains": "late"},
            [VOLUME],
            [FLEET_BURN, OUTAGE | {"scope": "region", "region": "eu"}],
            id="records that wait explain the missing tokens",
        ),
        pytest.param(
            EXPLAINS | {"explains": "intake"},
            [VOLUME],
            [SILENT, FLEET_BURN, VOLUME | {"job": "other"}],
            id="an intake that sent most requests explains the missing tokens",
        ),
        pytest.param(
            EXPLAINS | {"explains": "sources"},
            [SILENT],
            [VOLUME, SILENT | {"job": "other"}],
            id="the intake explains why its sources are silent",
        ),
        pytest.param(
            INTAKE | {"severity": "page", "cause": "down"},
            [
                INTAKE | {"severity": "page", "cause": "delivery"},
                INTAKE | {"severity": "ticket", "cause": "unavailable"},
            ],
            [
                INTAKE | {"severity": "ticket", "cause": "schema", "job": "tokenpulse-intake-b"},
                VOLUME,
            ],
            id="an intake that is down delivers nothing",
        ),
        pytest.param(
            REFUSED | {"severity": "page"},
            [VOLUME, REFUSED | {"severity": "ticket"}, NOT_COUNTED],
            [BURN | {"severity": "page"}, HALTED | {"reason": "store_policy"}],
            id="records that are rejected explain the missing tokens",
        ),
        pytest.param(
            HALTED | {"reason": "dead_letters"},
            [REFUSED | {"severity": "page"}, NOT_COUNTED],
            [BURN | {"severity": "page"}, HALTED | {"reason": "store_policy"}],
            id="a partition that halts for its rejected records says so",
        ),
        pytest.param(
            EXPLAINS | {"explains": "volume"},
            [VOLUME],
            [VOLUME | {"region": "us"}, BURN | {"severity": "page"}],
            id="failed requests explain the missing tokens of the fleet",
        ),
        pytest.param(
            TTFT | {"policy": "default", "objective": "ttft-p95"},
            [SLOW | LARGE_IN_EU | {"policy": "default", "objective": "ttft-p95"}],
            [SLOW | LARGE_IN_EU | {"policy": "default", "objective": "tpot-p95"}, CACHE],
            id="the latency of the fleet says what that of one place would",
        ),
        pytest.param(
            OUTAGE | {"scope": "model", "model": "large"},
            [OUTAGE | LARGE_IN_EU, SLOW | LARGE_IN_EU],
            [
                OUTAGE | {"scope": "region", "region": "us"},
                OUTAGE | LARGE_IN_EU | {"model": "small"},
                CACHE,
            ],
            id="an outage of a model explains the one in each region",
        ),
        pytest.param(
            OUTAGE | {"scope": "region", "region": "eu"},
            [
                TTFT | {"region": "eu", "model": "large"},
                OUTAGE | LARGE_IN_EU,
                BURN | {"severity": "page", "region": "eu"},
            ],
            [
                TTFT | {"region": "us", "model": "large"},
                TTFT | {"model": "large"},
                OUTAGE | {"scope": "model", "model": "small"},
                BURN | {"severity": "page"},
                CACHE,
            ],
            id="a regional outage silences the latency of its models",
        ),
        pytest.param(
            OUTAGE | {"scope": "fleet"},
            [
                OUTAGE | {"scope": "region", "region": "eu"},
                OUTAGE | LARGE_IN_EU,
                TTFT | {"region": "us"},
                BURN | {"severity": "page"},
                VOLUME,
                CACHE,
            ],
            [LAG],
            id="an outage of the fleet is one page",
        ),
        pytest.param(
            JUMP | {"severity": "page", "window": "5m"},
            [JUMP | {"severity": "ticket", "window": "5m"}],
            [JUMP | {"severity": "ticket", "window": "5m", "model": "small"}, LAG],
            id="a page about client errors makes the ticket on the same model needless",
        ),
        pytest.param(
            {"alertname": "TokenpulseCustomerFlood", "severity": "ticket", "customer": "Acme"},
            [LIMITED | {"customer": "Acme"}],
            [LIMITED | {"customer": "Bolt"}, LIMITED | {"model": "large"}],
            id="the limited requests of a flood are its own",
        ),
        pytest.param(
            BURN | {"severity": "page", "objective": "uptime", "window": "1h"},
            [BURN | {"severity": "ticket", "objective": "uptime", "window": "3d"}],
            [
                BURN | {"severity": "ticket", "objective": "other", "window": "3d"},
                BURN | {"severity": "ticket", "objective": "uptime", "region": "eu"},
            ],
            id="a page makes the ticket on the same thing needless",
        ),
    ],
)
def test_one_cause_is_one_page(
    alertmanager: Alertmanager,
    cause: dict[str, str],
    silenced: list[dict[str, str]],
    loud: list[dict[str, str]],
) -> None:
    alertmanager.tell(cause, *silenced, *loud)
    wanted = {"suppressed": canonical(silenced), "active": canonical([cause, *loud])}
    wait_until(lambda: alertmanager.states() == wanted, f"{wanted}")
