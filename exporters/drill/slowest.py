"""The slowest of the recent requests whose trace can be looked up.

Pure. The workers sample a few requests with a trace id and keep them for an hour
(streams/worker/exemplars.py), so this list is of examples; no count depends on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from exporters.drill.place import Place
from streams.worker.exemplars import Exemplar

SLOWEST_MAX = 10
_LATENCIES = ("ttft", "duration")
_DIMENSIONS = ("model", "region")  # an exemplar has only these


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """One request; a latency that was not sampled is None."""

    trace_id: str
    trace_address: str | None  # of the trace; None without `exporter.trace_url`
    ended_at_s: float
    model: str
    region: str
    ttft_s: float | None
    duration_s: float | None


def slowest_requests(
    exemplars: Iterable[Exemplar], place: Place, from_s: float, trace_url: str | None
) -> tuple[SlowRequest, ...]:
    """Return the slowest requests of a place that ended since `from_s`, by duration, then by TTFT.

    `trace_url`: address of a trace, with `{trace_id}` in it. Empty for a channel, tier or customer.
    """
    if place.dimension not in _DIMENSIONS:
        return ()
    at = _DIMENSIONS.index(place.dimension)
    requests: dict[tuple[str, int], dict[str, float]] = {}
    places: dict[tuple[str, int], Exemplar] = {}
    for exemplar in exemplars:
        if exemplar[at] != place.name or exemplar.ended_at_ms < from_s * 1_000:
            continue
        if exemplar.latency in _LATENCIES:
            # A trace may hold several calls; its two latencies of one call end at the same time.
            key = (exemplar.trace_id, exemplar.ended_at_ms)
            requests.setdefault(key, {})[exemplar.latency] = exemplar.value_ns / 1e9
            places[key] = exemplar
    found = [
        SlowRequest(
            trace_id,
            # The id comes from events: quoted, it cannot change the address.
            None if trace_url is None else trace_url.replace("{trace_id}", quote(trace_id, "")),
            ended_at_ms / 1_000,
            places[trace_id, ended_at_ms].model,
            places[trace_id, ended_at_ms].region,
            latencies.get("ttft"),
            latencies.get("duration"),
        )
        for (trace_id, ended_at_ms), latencies in requests.items()
    ]
    found.sort(key=lambda one: (-(one.duration_s or 0.0), -(one.ttft_s or 0.0), one.trace_id))
    return tuple(found[:SLOWEST_MAX])
