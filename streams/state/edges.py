"""Edges of the exported histograms.

Pure. Requests at or under each edge are counted exactly.
"""

from streams.state.slices import LATENCIES, Thresholds

# Bucket edges of the OpenTelemetry GenAI server metrics, in seconds. Source: OpenTelemetry semantic
# conventions v1.41.1, docs/gen-ai/gen-ai-metrics.md.
OTEL_EDGES_S: dict[str, tuple[float, ...]] = {
    "ttft": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
        *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ),
    "tpot": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    "duration": (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ),
}
OTEL_EDGES_S["first_visible"] = OTEL_EDGES_S["ttft"]  # not in the convention
# Edges added around a target: a percentile read through the histogram near the target would
# otherwise be off by half a bucket (a true 280 ms reads 321-378 ms through the conventional edges).
AROUND_TARGET = (0.8, 0.9, 1.0, 1.1, 1.25)
EVERYTHING_US = 86_400 * 10**6  # stands for +Inf: longer latencies are counted under it


def export_edges(targets: Thresholds) -> Thresholds:
    """Edges of the exported histograms: the convention's, some around each target, and all."""
    return Thresholds(
        *(
            tuple(
                sorted(
                    {round(edge_s * 1e6) for edge_s in OTEL_EDGES_S[latency]}
                    | {round(limit * factor) for limit in limits for factor in AROUND_TARGET}
                    | {EVERYTHING_US}
                )
            )
            for latency, limits in zip(LATENCIES, targets, strict=False)
        )
    )
