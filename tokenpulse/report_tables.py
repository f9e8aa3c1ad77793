"""Tables of a report for the terminal: a line for each step, group, or group in a step."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporters.daily.day.facts import BoardTargets
from exporters.formatting import UNKNOWN, count, known_tokens, latency, percent
from exporters.windows.incremental import CUSTOMER

_MEASURES = ("requests", "tokens", "cache hit", "available", "ttft p95", "tpot p95", "duration p95")


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; each column is as wide as its longest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def report_table(
    report: Mapping[str, Any],
    targets: BoardTargets,
    by_step: bool,
    name_of: Callable[[str], str] = str,
) -> Iterator[str]:
    """Yield the lines of the table of a report: by its groups, and by its steps if asked.

    No line if there is neither. `name_of`: token of a customer -> its name.
    """
    groups = report.get("groups")
    if groups is None and not by_step:
        return
    dimensions = tuple(groups[0]["key"]) if groups else ()
    head = (*(("start",) if by_step else ()), *dimensions, *_MEASURES)
    rows = [
        (*names, *_cells(measures, targets))
        for names, measures in _rows(report, groups, by_step, name_of)
    ]
    if rows:
        yield from table([head, *rows])
    else:
        yield "no request in any group"


def _rows(
    report: Mapping[str, Any],
    groups: Iterable[Mapping[str, Any]] | None,
    by_step: bool,
    name_of: Callable[[str], str],
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the names and the measures of each row, steps in order and largest groups first."""
    if groups is None:
        for step in report["steps"]:
            yield (step["start"],), step["measures"]
        return
    by_size = sorted(groups, key=lambda group: -group["total"]["requests"])
    keys = [
        tuple(
            name_of(name) if dimension == CUSTOMER else name
            for dimension, name in group["key"].items()
        )
        for group in by_size
    ]
    if not by_step:
        for key, group in zip(keys, by_size, strict=True):
            yield key, group["total"]
        return
    of_group = [{step["start"]: step["measures"] for step in group["steps"]} for group in by_size]
    for step in report["steps"]:
        for key, measures in zip(keys, of_group, strict=True):
            if step["start"] in measures:  # the group has requests in this step
                yield (step["start"], *key), measures[step["start"]]


def _cells(measures: Mapping[str, Any], targets: BoardTargets) -> tuple[str, ...]:
    return (
        count(measures["requests"]),
        known_tokens(measures["tokens"]["total"], measures["known_ratio"].get("tokens")),
        percent(measures.get("cache_hit_ratio"), targets.cache_hit_ratio),
        percent(measures.get("availability_ratio"), targets.availability_ratio),
        *(
            _p95(measures, name, target_s)
            for name, target_s in (
                ("ttft", targets.ttft_p95_s),
                ("tpot", targets.tpot_p95_s),
                ("duration", None),
            )
        ),
    )


def _p95(measures: Mapping[str, Any], name: str, target_s: float | None) -> str:
    # Customers have no latencies.
    quantiles = measures.get(f"{name}_seconds", {"count": 0})
    return latency(quantiles["p95"], target_s) if quantiles["count"] else UNKNOWN
