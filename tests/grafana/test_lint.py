"""The boards keep the rules of Grafana's dashboard-linter, but for what .lint files excuse."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.grafana_boards import BOARDS, DASHBOARDS, panels
from tests.support.grafana_lint import RULES

FOLDERS = sorted({path.parent for path in DASHBOARDS.glob("*/*.json")})


def excused(folder: Path) -> dict[str, dict[str, Any]]:
    """Rule -> its exclusion, as the linter reads them."""
    exclusions: dict[str, dict[str, Any]] = yaml.safe_load((folder / ".lint").read_text())[
        "exclusions"
    ]
    return exclusions


def is_excused(exclusion: dict[str, Any] | None, board: dict[str, Any], panel: str) -> bool:
    if exclusion is None:
        return False
    entries = exclusion.get("entries")
    return entries is None or {"dashboard": board["title"], "panel": panel} in entries


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", BOARDS)
def test_every_board_keeps_the_rule_or_is_excused(name: str, rule: str) -> None:
    (path,) = DASHBOARDS.glob(f"*/{name}.json")
    board, exclusion = BOARDS[name], excused(path.parent).get(rule)
    found = [
        (panel, words)
        for panel, words in RULES[rule](board)
        if not is_excused(exclusion, board, panel)
    ]
    assert not found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_is_excused_has_a_reason_and_is_needed(folder: Path) -> None:
    boards = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    for rule, exclusion in excused(folder).items():
        assert exclusion["reason"]
        found = [(board["title"], panel) for board in boards for panel, _ in RULES[rule](board)]
        assert found, f"{rule} excuses nothing"
        for entry in exclusion.get("entries", ()):
            assert (entry["dashboard"], entry["panel"]) in found, entry


def first(board: dict[str, Any], kind: str = "timeseries") -> dict[str, Any]:
    return next(panel for panel in board["panels"] if panel["type"] == kind)


def variable(board: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in board["templating"]["list"] if one["name"] == name)


def without_variable(board: dict[str, Any], name: str) -> None:
    board["templating"]["list"].remove(variable(board, name))


def asking(board: dict[str, Any], expr: str) -> None:
    first(board)["targets"][0]["expr"] = expr


X = 'x{job=~"$job", instance=~"$instance"}'
BREAKS: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("template-datasource-rule", lambda b: without_variable(b, "datasource")),
    ("template-datasource-rule", lambda b: variable(b, "datasource").update(name="prometheus")),
    ("template-job-rule", lambda b: without_variable(b, "job")),
    ("template-job-rule", lambda b: variable(b, "job").update(multi=False)),
    ("template-job-rule", lambda b: variable(b, "job").update(allValue=".*")),
    ("template-job-rule", lambda b: variable(b, "job").update(datasource={"uid": "mine"})),
    ("template-job-rule", lambda b: variable(b, "job").update(label="Scrape job")),
    ("template-job-rule", lambda b: variable(b, "job").update(type="custom")),
    ("template-instance-rule", lambda b: without_variable(b, "instance")),
    ("template-label-promql-rule", lambda b: variable(b, "job").update(query="up")),
    ("template-on-time-change-reload-rule", lambda b: variable(b, "job").update(refresh=1)),
    ("panel-datasource-rule", lambda b: first(b).update(datasource={"uid": "mine"})),
    ("panel-title-description-rule", lambda b: first(b).update(title="")),
    ("panel-title-description-rule", lambda b: first(b).update(description="")),
    ("panel-units-rule", lambda b: first(b)["fieldConfig"]["defaults"].update(unit="tokens")),
    ("panel-units-rule", lambda b: first(b)["fieldConfig"]["defaults"].pop("unit")),
    (
        "panel-units-rule",
        lambda b: first(b, "table")["fieldConfig"]["overrides"][0]["properties"].append(
            {"id": "unit", "value": "dollars"}
        ),
    ),
    ("panel-no-targets-rule", lambda b: first(b).update(targets=[])),
    ("target-rate-interval-rule", lambda b: asking(b, f"rate({X}[5m])")),
    ("target-job-rule", lambda b: asking(b, 'x{instance=~"$instance"}')),
    ("target-instance-rule", lambda b: asking(b, 'x{job=~"$job"}')),
    ("target-counter-agg-rule", lambda b: asking(b, X.replace("x", "x_total", 1))),
    (
        "target-counter-agg-rule",
        lambda b: asking(b, f"deriv({X.replace('x', 'x_total', 1)}[$__range])"),
    ),
    ("uneditable-dashboard-rule", lambda b: b.update(editable=True)),
]


@pytest.mark.parametrize(("rule", "broken"), BREAKS)
def test_each_rule_finds_what_is_broken(rule: str, broken: Callable[[dict[str, Any]], Any]) -> None:
    board = copy.deepcopy(BOARDS["live"])
    instance = {**copy.deepcopy(variable(board, "job")), "name": "instance", "label": "Instance"}
    board["templating"]["list"].append(instance)
    for panel in panels(board):
        for target in panel.get("targets", ()):
            target["expr"] = X
    for listed in board["templating"]["list"]:
        listed["refresh"] = 2
    assert list(RULES[rule](board)) == []
    broken(board)
    assert list(RULES[rule](board))


def test_every_rule_is_seen_to_find_something() -> None:
    assert {rule for rule, _ in BREAKS} == {*RULES}
