"""An incident, and the pages that it must cause: these, and no more.

Times are seconds after the start of the incident.
"""

from dataclasses import dataclass

from tests.alerts.league.pipeline import PARTITIONS, PipelineFault
from tests.alerts.league.traffic import RATE, Fault

# Of healthy traffic behind the last phase, in which no page may come: as long as the failures of
# an outage stay in the windows of the burn rates, or those of a pipeline in its counters.
_RECOVERY_S, _PIPELINE_RECOVERY_S = 2_400, 1_000


def waiting(partitions: int) -> Fault:
    """Return the part of the traffic that waits in Kafka while some partitions are not read."""
    return Fault("absent", partitions / PARTITIONS)


_WAITING = {waiting(partitions) for partitions in (1, 2, PARTITIONS)}
Page = dict[str, str]  # labels of the group of the page, those that the incident decides


@dataclass(frozen=True, slots=True)
class Phase:
    """Time in which the faults of requests stay the same; a multiple of ten seconds."""

    lasts_s: int
    faults: tuple[Fault, ...] = ()
    times: float = 1.0  # as much traffic as usual


@dataclass(frozen=True, slots=True)
class LeagueIncident:
    """One incident; each page must come within `within_s` of the start."""

    name: str
    phases: tuple[Phase, ...]
    pages: tuple[Page, ...] = ()
    within_s: int = 60
    pipeline: tuple[PipelineFault, ...] = ()
    rate: float = RATE
    is_wide: bool = False  # a fleet of five regions
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
QUARTER_S, HALF_S, HOUR_S = 900, 1_800, 3_600


def lasting(lasts_s: int, *faults: Fault) -> tuple[Phase, ...]:
    """Return one phase with some faults."""
    return (Phase(lasts_s, faults),)
