"""Times of all dashboard queries on a real Prometheus that holds an hour of a large page.

A worker counts events of 50 models in 10 regions with 6 outcomes: 3,000 request counters. The page
of the exporter is then repeated every 10 s of an hour, with counters that rise, and each query of
each dashboard is asked as Grafana asks it (one hour, step 10 s or that of the panel, no choice
made), the best of three.
Beside them stands a query of one gauge, and the sum over all request counters that the fleet graphs
avoid, from the same run.

Needs `prometheus` and `promtool`, about 3 GB of disk and some minutes.
"""

import json
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from bench import prometheus
from bench.large_page import exported_page

SPAN_S, STEP_S = 3_600, 10
ROUNDS = 3
DASHBOARDS = Path(__file__).resolve().parent.parent / "grafana" / "dashboards"
GAUGE = 'max by (outcome) (tokenpulse_window_requests{scope="fleet", window="1m"})'
SCAN = "sum by (outcome) (rate(tokenpulse_requests_total[1m]))"
# What Grafana fills in; a variable of which nothing is chosen matches all values.
FILLED = {"__rate_interval": "1m", "__range": "1h"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


def write_hour(samples: list[str], end_s: int, file: TextIO) -> None:
    """Write the page at every step of the hour before `end_s`, in the OpenMetrics format."""
    for line in samples:
        # An exemplar follows ` # ` and is cut off.
        series, value_text = line.split(" # ")[0].rsplit(" ", 1)
        name, value = series.split("{")[0], float(value_text)
        rises = name.endswith(("_total", "_bucket", "_count", "_sum"))
        # The labels that Prometheus adds to what it scrapes.
        if "{" in series:
            series = series.replace("{", '{job="tokenpulse",instance="bench",', 1)
        else:
            series += '{job="tokenpulse",instance="bench"}'
        for step in range(SPAN_S // STEP_S + 1):
            # Gauges vary a little, as constant ones would be cheaper to read.
            at = value + value * step if rises else value * (1 + step % 7 / 1_000)
            file.write(f"{series} {at!r} {end_s - SPAN_S + step * STEP_S}\n")
    file.write("# EOF\n")


def queries() -> Iterator[tuple[str, str, int]]:
    """Yield (panel, expression, step in seconds) of all dashboards; step 0 asks for one instant."""
    for path in sorted(DASHBOARDS.glob("*/*.json")):
        board = json.loads(path.read_text())
        chosen = {
            variable["name"]: str(variable.get("allValue") or variable["current"]["value"])
            for variable in board["templating"]["list"]
        }
        values = FILLED | chosen

        # Bound as a default, as the loop assigns `values` anew for each board.
        def fill(match: re.Match[str], values: dict[str, str] = values) -> str:
            return values[match[1] or match[2]]

        # Panels of a collapsed row are inside the row.
        rows = [row for row in board["panels"] if row["type"] == "row"]
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        for panel in panels + [panel for row in rows for panel in row["panels"]]:
            for target in panel.get("targets", ()):
                step_s = max(STEP_S, _seconds(panel.get("interval") or "0s"))
                values["__interval"] = f"{step_s}s"
                expression = _VARIABLE.sub(fill, target["expr"])
                name = f"{path.stem}: {panel['title']} / {target['refId']}"
                yield name, expression, 0 if target.get("instant") else step_s


def _seconds(length: str) -> int:
    return int(length[:-1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[length[-1]]


def best_ms(url: str, expression: str, step_s: int, end_s: int) -> float:
    """Return the fewest milliseconds of some rounds until an answer was read."""
    asked: dict[str, Any] = {"query": expression}
    if step_s == 0:
        path, asked["time"] = "query", end_s
    else:
        path = "query_range"
        asked |= {"start": end_s - SPAN_S, "end": end_s, "step": step_s}
    times_ms = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with urllib.request.urlopen(
            f"{url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=120
        ) as answer:
            answer.read()
        times_ms.append((time.perf_counter() - began) * 1_000)
    # The fastest round: other work of the machine only adds time.
    return min(times_ms)


def measure(url: str, end_s: int) -> None:
    """Print the times, the slowest first."""
    found = sorted(
        ((best_ms(url, expression, step_s, end_s), name) for name, expression, step_s in queries()),
        reverse=True,
    )
    for time_ms, name in found[:20]:
        print(f"{time_ms:8.1f} ms  {name}")
    over = sum(time_ms > 100 for time_ms, _ in found)
    print(f"{len(found)} queries, {over} over 100 ms, median {found[len(found) // 2][0]:.1f} ms")
    print(f"{best_ms(url, GAUGE, STEP_S, end_s):8.1f} ms  one gauge: {GAUGE}")
    print(f"{best_ms(url, SCAN, STEP_S, end_s):8.1f} ms  all request counters: {SCAN}")


def main() -> None:
    """Measure all queries once."""
    prometheus.require("prometheus", "promtool")
    with tempfile.TemporaryDirectory(prefix="tokenpulse-panels-") as name:
        directory = Path(name)
        samples = exported_page()
        end_s = int(time.time()) // STEP_S * STEP_S
        text = directory / "hour.txt"
        with text.open("w") as file:
            write_hour(samples, end_s, file)
        blocks = directory / "data"
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(blocks)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        text.unlink()
        print(f"{len(samples)} series, {SPAN_S // STEP_S + 1} samples of each")
        with prometheus.running(directory, "global: {}\n", blocks) as url:
            measure(url, end_s)


if __name__ == "__main__":
    main()
