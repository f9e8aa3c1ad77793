"""The labels of each metric of the intake, by its name."""

from streams.intake.metrics import IntakeMetrics


def _labels() -> dict[str, set[str]]:
    metrics = IntakeMetrics(lambda: 0)
    # Samples show the names as they are published; a metric with labels needs one child.
    metrics.answers.labels("s", "200")
    metrics.rejected.labels("s", "r")
    metrics.skipped.labels("s", "r", "scope")
    metrics.notes.labels("s", "n", "scope")
    for one in (metrics.lag, metrics.waiting):
        one.labels("s", "0")
    for counter in (metrics.records, metrics.spans, metrics.events, metrics.undelivered):
        counter.labels("s")
    metrics.last_event.labels("s")
    return {
        sample.name: set(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


INTAKE_LABELS = _labels()
