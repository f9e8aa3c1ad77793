"""The committed Grafana dashboards as data: panels, queries, variables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.paths import ROOT

DASHBOARDS = ROOT / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*/*.json"))
}
# What Grafana fills in by itself.
SPANS = {"__rate_interval": "1m", "__range": "1h", "__interval": "5m"}
_NAME = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Asked:
    """One query: of a panel by its letter, of a variable, or of an annotation."""

    board: str
    of: str
    expr: str
    exemplar: bool = False

    @property
    def name(self) -> str:
        """For lists and messages."""
        return f"{self.board}: {self.of}"


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all panels but the headings of rows; those of collapsed rows too."""
    inside = [panel for row in board["panels"] for panel in row.get("panels", ())]
    return [panel for panel in board["panels"] if panel["type"] != "row"] + inside


def layout(board: Mapping[str, Any]) -> str:
    """Return the layout of a board as text: a line a row of panels, with their sizes."""
    lines = [f"{board['title']} ({board['uid']}), {board['time']['from']}, {board['refresh']}"]
    for row in board["panels"]:
        is_row = row["type"] == "row"
        if is_row:
            state = ", collapsed" if row["collapsed"] else ""
            lines.append(f"y {row['gridPos']['y']:>3} -- {row['title']}{state} --")
        last_y = None
        for panel in row["panels"] if is_row else [row]:
            place = panel["gridPos"]
            here = f"[{place['w']}x{place['h']} {panel['type']}: {panel['title']}]"
            if place["y"] in (last_y, _y_of(lines[-1])):
                lines[-1] += f" {here}"
            else:
                lines.append(f"y {place['y']:>3} {here}")
            last_y = place["y"]
    return "\n".join(lines) + "\n"


def _y_of(line: str) -> int | None:
    match = re.match(r"y +(\d+) \[", line)
    return int(match[1]) if match else None


def variables(board: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By name."""
    return {one["name"]: one for one in board["templating"]["list"]}


def used_variables(text: str) -> set[str]:
    """Names of the dashboard's own variables in a text."""
    names = {first or second for first, second in _NAME.findall(text)}
    return {name for name in names if not name.startswith("__")}


def filled_in(expr: str, values: Mapping[str, str]) -> str:
    """An expression as Prometheus gets it."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return {**SPANS, **values}[name]

    return _NAME.sub(value, expr)


def defaults(board: Mapping[str, Any]) -> dict[str, str]:
    """The value that each variable has at first, as it stands in a query."""
    found = {}
    for name, one in variables(board).items():
        value = one["current"]["value"]
        value = value[0] if isinstance(value, list) else value
        found[name] = one["allValue"] if value == "$__all" else value
    return found


def targets() -> Iterator[Asked]:
    """Every query of every panel."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            for target in panel.get("targets", ()):
                of = f"{panel['title']} / {target['refId']}"
                yield Asked(name, of, target["expr"], target.get("exemplar", False))


def annotations() -> Iterator[Asked]:
    """Every query of an annotation."""
    for name, board in BOARDS.items():
        for one in board["annotations"]["list"]:
            yield Asked(name, f"annotation {one['name']}", one["expr"])


def label_queries() -> Iterator[tuple[Asked, str]]:
    """Every query of a variable: the selector, and the label whose values are wanted."""
    for name, board in BOARDS.items():
        for variable, one in variables(board).items():
            if one["type"] == "query":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"])
                assert match, f"{name}: {variable}: {one['query']}"
                yield Asked(name, f"variable {variable}", match[1]), match[2]
