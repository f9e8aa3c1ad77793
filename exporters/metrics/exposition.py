"""Writes metrics as text: Prometheus 0.0.4 and OpenMetrics 1.0.

Pure. prometheus_client's own writers take 13 us a sample, a quarter of a second for the 20,000
samples of a large fleet, twice a second; here a sample is one f-string, and both formats share the
lines. Its parsers judge the result in the tests.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from exporters.catalogue.requests import SPECS
from exporters.catalogue.spec import Spec


def label_text(pairs: Mapping[str, str]) -> str:
    """Return labels as they are written between the braces."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in pairs.items())


def exemplar_text(trace_id: str, value: float, time_s: float) -> str:
    """Return an exemplar as OpenMetrics writes it: at most 128 characters of labels."""
    return f"{{{label_text({'trace_id': trace_id})}}} {value} {time_s}"


def join(*texts: str) -> str:
    """Join label texts; empty ones are left out."""
    return ",".join(text for text in texts if text)


class Page:
    """Samples collected for one export; `text` writes them in the order of the catalogue."""

    def __init__(self, least_share: float = 0.0) -> None:
        """Prepare an empty page; `least_share`: of the requests, below which no group is added."""
        self.least_share = least_share
        self.samples_left_out = 0  # for that reason, at least, by those who add samples
        self._lines: dict[str, list[str]] = {}
        self._shares: dict[str, float] = {}  # labels of a group -> its share of the requests
        self._exemplars: dict[str, dict[int, str]] = {}  # metric -> index of the line -> text

    def add(self, spec: Spec, labels: str, value: float) -> None:
        """Add one sample; `labels` as `label_text` writes them."""
        # Text at once and not objects: a page may have tens of thousands of samples, each second.
        line = f"{spec.name}{{{labels}}} {value}\n" if labels else f"{spec.name} {value}\n"
        self._lines.setdefault(spec.name, []).append(line)

    def add_ratio(self, spec: Spec, labels: str, part: int, whole: int) -> None:
        """Add part / whole, unless the whole is 0."""
        if whole:
            self.add(spec, labels, part / whole)

    def add_if_any(self, spec: Spec, labels: str, value: int) -> None:
        """Add one sample, unless it is 0."""
        if value:
            self.add(spec, labels, value)

    def add_quantiles(
        self, spec: Spec, labels: str, quantiles: Iterable[tuple[str, float]]
    ) -> None:
        """Add the quantiles of one summary; each as (text, value)."""
        self._lines.setdefault(spec.name, []).extend(
            [f'{spec.name}{{{labels},quantile="{text}"}} {value}\n' for text, value in quantiles]
        )

    def add_histogram(
        self,
        spec: Spec,
        labels: str,
        edges: Sequence[str],
        cumulative: Sequence[int],
        sum_value: float,
        exemplars: Mapping[int, str],
    ) -> None:
        """Add a histogram: counts at or under each edge, the last of which is `+Inf`.

        `exemplars`: index of the edge -> text as `exemplar_text` writes it.
        """
        lines = self._lines.setdefault(spec.name, [])
        # Only OpenMetrics has exemplars, so they are kept apart from the shared lines.
        for at, text in exemplars.items():
            self._exemplars.setdefault(spec.name, {})[len(lines) + at] = text
        for edge, count in zip(edges, cumulative, strict=True):
            lines.append(f'{spec.name}_bucket{{{labels},le="{edge}"}} {count}\n')
        lines.append(f"{spec.name}_sum{{{labels}}} {sum_value}\n")
        lines.append(f"{spec.name}_count{{{labels}}} {cumulative[-1]}\n")

    def rank(self, labels: str, share: float) -> None:
        """Make one group of the samples whose labels begin with `labels`, for `limit`.

        `share`: 0 to 1, of the requests that were counted in the same time.
        """
        self._shares[labels] = share

    def limit(self, max_samples: int, max_length: int) -> int:
        """Take out the least used groups until both limits hold; return the samples left out.

        At least so many: groups that were not added may have had more. `max_length`: characters of
        all samples. Samples that are in no group stay, also beyond the limits.
        """
        texts = list(chain.from_iterable(self._lines.values()))
        excess = len(texts) - max_samples, sum(map(len, texts)) - max_length
        if max(excess) <= 0:
            return self.samples_left_out
        owners = {metric: self._groups_of(lines) for metric, lines in self._lines.items()}
        samples: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for text, group in zip(texts, chain.from_iterable(owners.values()), strict=True):
            samples[group] += 1
            size[group] += len(text)
        dropped: set[str] = set()
        before = 0, 0
        # By name within equal shares, so that two exporters take out the same ones.
        for group in sorted(
            samples.keys() & self._shares, key=lambda one: (self._shares[one], one)
        ):
            if before[0] >= excess[0] and before[1] >= excess[1]:
                break
            dropped.add(group)
            before = before[0] + samples[group], before[1] + size[group]
        for metric, groups in owners.items():
            self._keep(metric, [at for at, group in enumerate(groups) if group not in dropped])
        return before[0] + self.samples_left_out

    def _groups_of(self, lines: Sequence[str]) -> list[str]:
        """Return the group of each line of a metric; empty for a line that is in none."""
        found, group = [], ""
        for line in lines:
            begin = line.find("{") + 1
            # Most lines are of the same group as the one before.
            if not (group and line.startswith(group, begin)):
                group = self._find_group(line, begin)
            found.append(group)
        return found

    def _find_group(self, line: str, begin: int) -> str:
        end = begin
        # Such a quote within a value may end a text too, but that is the text of no group.
        while end := line.find('",', end) + 1:
            if line[begin:end] in self._shares:
                return line[begin:end]
        labels = line[begin : line.rfind("}")]
        return labels if labels in self._shares else ""

    def _keep(self, metric: str, places: Sequence[int]) -> None:
        """Keep the lines of a metric at these places, with their exemplars."""
        lines = self._lines[metric]
        if len(places) == len(lines):
            return
        exemplars = self._exemplars.pop(metric, {})
        self._exemplars[metric] = {
            at: exemplars[place] for at, place in enumerate(places) if place in exemplars
        }
        self._lines[metric] = [lines[place] for place in places]
        if not places:
            del self._lines[metric]

    def lines(self, metric: str) -> Sequence[str]:
        """Return the lines of a metric, in the order in which they were added."""
        return self._lines.get(metric, ())

    @property
    def samples(self) -> int:
        """Return the number of samples."""
        return sum(len(lines) for lines in self._lines.values())

    def text(self, openmetrics: bool) -> bytes:
        """Return the whole page in one of the two formats."""
        out: list[str] = []
        for spec in SPECS:
            if spec.name in self._lines:
                out.append(_heading(spec, openmetrics))
                lines = self._lines[spec.name]
                if openmetrics and spec.name in self._exemplars:
                    lines = lines.copy()
                    for at, text in self._exemplars[spec.name].items():
                        lines[at] = f"{lines[at][:-1]} # {text}\n"
                out += lines
        # Only OpenMetrics wants quotes escaped in HELP.
        if openmetrics:
            out.append("# EOF\n")
        return "".join(out).encode()


def _heading(spec: Spec, openmetrics: bool) -> str:
    # OpenMetrics names a counter's family without the suffix of its samples.
    name = spec.name.removesuffix("_total") if openmetrics else spec.name
    text = spec.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
    heading = f"# HELP {name} {text}\n# TYPE {name} {spec.kind}\n"
    if openmetrics and spec.unit:
        heading += f"# UNIT {name} {spec.unit}\n"
    return heading


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
