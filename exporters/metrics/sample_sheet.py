"""A page that keeps its samples as values, for rules to be evaluated over them.

Pure. Histograms are left out: no rule reads them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page
from slo.alert_state import SampleKey, sample_key

_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"n": "\n"}


class SampleSheet(Page):
    """Samples by metric name and labels."""

    def __init__(self, metrics: frozenset[str] | None = None) -> None:
        """Prepare an empty sheet; `metrics`: names of the metrics to keep; None keeps all."""
        super().__init__()
        self._metrics = metrics
        self.values: dict[str, dict[SampleKey, float]] = {}

    def add(self, spec: Spec, labels: str, value: float) -> None:
        """Keep one sample; `labels` as `label_text` writes them."""
        if self._metrics is None or spec.name in self._metrics:
            self.values.setdefault(spec.name, {})[parse_labels(labels)] = float(value)

    def add_page(self, page: Page) -> None:
        """Keep the samples of a page, of metrics that have none here yet."""
        # Samples that were added as values are exact; those of a page went through its text.
        for metric in (self._metrics or frozenset()) - self.values.keys():
            samples = [_parse_line(metric, line) for line in page.lines(metric)]
            if samples:
                self.values[metric] = dict(samples)

    def add_quantiles(
        self, spec: Spec, labels: str, quantiles: Iterable[tuple[str, float]]
    ) -> None:
        """Keep the quantiles of one summary; each as (text, value)."""
        for text, value in quantiles:
            self.add(spec, f'{labels},quantile="{text}"', value)

    def add_histogram(
        self,
        spec: Spec,
        labels: str,
        edges: Sequence[str],
        cumulative: Sequence[int],
        sum_value: float,
        exemplars: Mapping[int, str],
    ) -> None:
        """Ignore a histogram."""


# Label texts recur from slice to slice, so most are parsed once.
@lru_cache(maxsize=65_536)
def parse_labels(labels: str) -> SampleKey:
    """Read labels as `label_text` writes them."""
    # A quote within a value is escaped, so that without a backslash each one is at its end. Most
    # labels are so, and a fleet with many names has a hundred thousand of them in each refresh.
    if labels and "\\" not in labels:
        pairs = [pair.split('="') for pair in labels[:-1].split('",')]
        return tuple(sorted([(name, value) for name, value in pairs if value]))
    return sample_key({name: _unescape(value) for name, value in _PAIR.findall(labels)})


def _parse_line(metric: str, line: str) -> tuple[SampleKey, float]:
    """Return labels and value of a line as `Page.add` writes it."""
    # Values have no spaces, so the last one ends the labels, whatever they hold.
    labels, _, value = line[len(metric) :].rpartition(" ")
    return parse_labels(labels[1:-1]), float(value)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), text)
