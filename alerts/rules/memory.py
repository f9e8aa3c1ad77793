"""Rules about memory: of Redis, the workers and the exporters, each against its limit.

Pure. Without a limit there is no series of it, and no alert.
"""

from collections.abc import Iterator
from fractions import Fraction

from alerts.promql import INSTALLATION, aggregate, number
from alerts.rules.model import KEEP_FIRING_S, Alert, page, ticket
from exporters.catalogue import pipeline as catalogue
from exporters.catalogue.spec import Spec
from slo.health_limits import MEMORY_NEAR_LIMIT, REDIS_AT_LIMIT, REDIS_NEAR_LIMIT
from slo.policy.units import percent_text

_NAME = "TokenpulseMemoryNearLimit"
_SHARE = "{{ $value | humanizePercentage }}"


def memory_alerts() -> Iterator[Alert]:
    """Yield the alerts, one for each kind of server and severity."""
    redis = (catalogue.REDIS_MEMORY, catalogue.REDIS_MEMORY_LIMIT)
    full = "At maxmemory Redis rejects every write: no request is counted until there is room."
    # The page says all that the ticket would, and Alertmanager silences the ticket then.
    for severity, share, for_s in ((page, REDIS_AT_LIMIT, 60), (ticket, REDIS_NEAR_LIMIT, 300)):
        yield severity(
            _NAME,
            _share_above(redis, (), share),
            f"Redis uses {_SHARE} of its maxmemory",
            f"{full} Give it more memory, or shorten what is stored (worker.limits, retention).",
            f"{_SHARE} of maxmemory",
            f"at most {percent_text(share)}",
            for_s,
            KEEP_FIRING_S,
            cause="redis",
        )
    processes = {
        "worker": (catalogue.WORKER_MEMORY, catalogue.WORKER_MEMORY_LIMIT, "worker"),
        "exporter": (catalogue.EXPORTER_MEMORY, catalogue.EXPORTER_MEMORY_LIMIT, "instance"),
    }
    for process, (used, limit, label) in processes.items():
        which = f"{process.capitalize()} {{{{ $labels.{label} }}}}"
        yield ticket(
            _NAME,
            _share_above((used, limit), (label,), MEMORY_NEAR_LIMIT),
            f"{which} uses {_SHARE} of its memory",
            f"{which} uses {_SHARE} of the memory limit of its container. Above the limit the "
            "kernel ends it; after a restart it needs as much again.",
            f"{_SHARE} of the limit",
            f"at most {percent_text(MEMORY_NEAR_LIMIT)}",
            300,
            KEEP_FIRING_S,
            cause=process,
        )


def _share_above(specs: tuple[Spec, Spec], by: tuple[str, ...], share: Fraction) -> str:
    """Return PromQL for the memory as a share of its limit, if it is above a share."""
    # The vectors match by labels: a process without a limit has no partner, and gives no alert.
    used, limit = (aggregate("max", spec.name, (*INSTALLATION, *by)) for spec in specs)
    return f"{used} / {limit} > {number(share)}"
