"""Builds docs/metrics.md, the page of all metrics, from the catalogue. Pure."""

from collections.abc import Iterable

from exporters.catalogue.requests import GROUPS
from exporters.catalogue.spec import SCOPE_LABELS, SERIES_LABELS, Spec
from streams.worker.metrics import WorkerMetrics


def documents() -> dict[str, str]:
    """Return, by path in the project, the text of the documents generated from the catalogue."""
    return {"docs/metrics.md": "\n".join(_page()) + "\n"}


def _page() -> Iterable[str]:
    yield "<!-- Generated from exporters/catalogue by `make docs`: do not edit. -->"
    yield "# Metrics"
    yield ""
    yield "The exporter serves these metrics at `/metrics`, in the Prometheus text format, or in"
    yield "OpenMetrics if the client asks for it. Values are seconds, ratios (0 to 1) or counts."
    for group in GROUPS:
        yield ""
        yield f"## {group.title}"
        yield ""
        yield group.about
        if group.title == "Windows":
            yield ""
            yield "| `scope` | labels that name it |"
            yield "|---|---|"
            for scope, names in SCOPE_LABELS.items():
                yield f"| `{scope}` | {', '.join(f'`{name}`' for name in names) or 'none'} |"
            yield ""
            yield "`customer` is the name in the customer directory `exporter.customer_directory`,"
            yield "or the keyed hash of the id. `segment` comes from the directory."
        yield ""
        yield "| metric | type | labels | meaning | notes | since |"
        yield "|---|---|---|---|---|---|"
        for spec in group.specs:
            labels = ", ".join(f"`{label}`" for label in _labels(spec))
            yield (
                f"| `{spec.name}` | {spec.kind} | {labels} | {spec.help} | {spec.meaning} "
                f"| {spec.since} |"
            )

    yield ""
    yield "## Each worker process"
    yield ""
    yield "A worker serves its own `/metrics` and `/healthz` at `worker.metrics_host` and"
    yield "`worker.metrics_port`; by default it opens no port. The compose stack scrapes workers as"
    yield "job `tokenpulse-worker`. No rule and no dashboard needs them. `process_*` are those of"
    yield "every Prometheus client: resident memory, processor time, open files, start. The rate of"
    yield "`tokenpulse_worker_process_records_total` is the events per second of this worker."
    yield ""
    yield "| metric | type | meaning |"
    yield "|---|---|---|"
    for family in WorkerMetrics().registry.collect():
        # Those of the process itself depend on the system on which the page is built.
        if family.name.startswith("tokenpulse_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            yield f"| `{name}` | {family.type} | {family.documentation} |"


def _labels(spec: Spec) -> tuple[str, ...]:
    """Return the labels to list, without those that depend on the scope (a table lists them)."""
    if "scope" in spec.labels:
        return tuple(
            label for label in spec.labels if label not in {*SERIES_LABELS, "customer", "segment"}
        )
    return spec.labels
