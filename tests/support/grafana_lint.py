"""The rules of github.com/grafana/dashboard-linter 0.2.0, as far as they can be told from JSON.

Each takes a dashboard and yields what it finds as (panel or "", words). Whether an expression is
PromQL is asked of promtool elsewhere.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

Found = Iterator[tuple[str, str]]
Rule = Callable[[dict[str, Any]], Found]

TEMPLATED = {"$datasource", "${datasource}"}
JUDGED = {"stat", "table", "timeseries", "gauge"}
# Of Grafana's many those that suit us.
UNITS = {
    *("none", "short", "percent", "percentunit", "currencyUSD", "dateTimeAsIso"),
    *("s", "ms", "m", "h", "d", "dtdurations", "reqps", "cps", "ops", "bool", "bool_yes_no"),
}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}(\[[^\]]*\])?")


def _panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def _exprs(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in _panels(board):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def _templates(board: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in board["templating"]["list"] if one["type"] == kind]


def template_datasource(board: dict[str, Any]) -> Found:
    found = _templates(board, "datasource")
    if len(found) != 1:
        yield "", f"{len(found)} data source variables"
    for one in found:
        if (one["name"], one["label"]) != ("datasource", "Data source"):
            yield "", f"data source variable {one['name']} labelled {one['label']}"


def _template(board: dict[str, Any], name: str) -> Found:
    found = [one for one in board["templating"]["list"] if one["name"] == name]
    if not found:
        yield "", f"no variable {name}"
    for one in found:
        if one.get("datasource", {}).get("uid") not in TEMPLATED:
            yield "", f"{name}: not of $datasource"
        if one["type"] != "query":
            yield "", f"{name}: not a query"
        if one["label"] != name.title():
            yield "", f"{name}: labelled {one['label']}"
        if not one["multi"]:
            yield "", f"{name}: only one can be chosen"
        if one.get("allValue") != ".+":
            yield "", f"{name}: all is {one.get('allValue')}"


def template_job(board: dict[str, Any]) -> Found:
    yield from _template(board, "job")


def template_instance(board: dict[str, Any]) -> Found:
    yield from _template(board, "instance")


def template_label_promql(board: dict[str, Any]) -> Found:
    for one in _templates(board, "query"):
        functions = r"(?:label_names|label_values|metrics|query_result)\(.+\)"
        if not re.fullmatch(functions, one["query"]):
            yield "", f"{one['name']}: {one['query']}"


def template_on_time_change_reload(board: dict[str, Any]) -> Found:
    for one in _templates(board, "query"):
        if one["refresh"] != 2:
            yield "", f"{one['name']}: is not asked for again when the time changes"


def panel_datasource(board: dict[str, Any]) -> Found:
    for panel in _panels(board):
        if panel["type"] in JUDGED and panel.get("datasource", {}).get("uid") not in TEMPLATED:
            yield panel["title"], "not of $datasource"


def panel_title_description(board: dict[str, Any]) -> Found:
    for panel in _panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield panel.get("title", ""), "no title or no description"


def panel_units(board: dict[str, Any]) -> Found:
    for panel in _panels(board):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        named = panel["type"] not in JUDGED or defaults.get("mappings")
        if not named and defaults.get("unit") not in UNITS:
            yield panel["title"], f"unit {defaults.get('unit')}"
        overrides = panel.get("fieldConfig", {}).get("overrides", [])
        for one in (one for override in overrides for one in override["properties"]):
            if one["id"] == "unit" and one["value"] not in UNITS:
                yield panel["title"], f"unit {one['value']}"


def panel_no_targets(board: dict[str, Any]) -> Found:
    for panel in _panels(board):
        if panel["type"] != "text" and not panel.get("targets"):
            yield panel["title"], "asks nothing"


def target_rate_interval(board: dict[str, Any]) -> Found:
    for title, expr in _exprs(board):
        for span in re.findall(r"\bi?rate\([^\[\]]*\[([^\]]*)\]", expr):
            if span != "$__rate_interval":
                yield title, f"rate over {span}"


def _target(board: dict[str, Any], label: str) -> Found:
    for title, expr in _exprs(board):
        for metric, matchers, _ in SELECTOR.findall(expr):
            if f'{label}=~"${label}"' not in matchers:
                yield title, f"{metric} of every {label}"


def target_job(board: dict[str, Any]) -> Found:
    yield from _target(board, "job")


def target_instance(board: dict[str, Any]) -> Found:
    yield from _target(board, "instance")


def target_counter_agg(board: dict[str, Any]) -> Found:
    for title, expr in _exprs(board):
        for match in SELECTOR.finditer(expr):
            before = expr[: match.start()]
            if match[1].endswith("_total") and not (
                match[3] and before.endswith(("rate(", "irate(", "increase("))
            ):
                yield title, f"{match[1]} is not under rate, irate or increase"


def uneditable_dashboard(board: dict[str, Any]) -> Found:
    if board.get("editable") is not False:
        yield "", "can be edited"


RULES: dict[str, Rule] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard-rule": uneditable_dashboard,
}
