"""The Grafana dashboards: generated, whole, and true to catalogue and alert rules."""

import json
import re
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from exporters.catalogue.requests import SPECS
from exporters.windows.plan import window_plan
from grafana.generate import encode
from grafana.generate import main as generate
from streams.config.settings import Settings
from tests.support.compiled_rules import alerts_in, rule_files
from tests.support.grafana_boards import (
    BOARDS,
    annotations,
    defaults,
    filled_in,
    label_queries,
    layout,
    panels,
    targets,
    used_variables,
    variables,
)
from tests.support.paths import ROOT
from tests.support.promtool import PROMTOOL, needs_promtool

BY_UID = {board["uid"]: board for board in BOARDS.values()}
# Series that Prometheus itself makes.
OF_PROMETHEUS = {
    *("up", "ALERTS", "ALERTS_FOR_STATE"),
    *("scrape_duration_seconds", "scrape_samples_scraped"),
    "prometheus_tsdb_lowest_timestamp_seconds",
}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')

register_default_plugins()
board_names = pytest.mark.parametrize("name", BOARDS)


# -- generated -------------------------------------------------------------------------------------


def test_the_dashboards_are_those_that_the_code_generates() -> None:
    done = CliRunner().invoke(generate, ["--check"])
    assert (done.exit_code, done.output) == (0, "")


def test_a_dashboard_that_no_code_generates_is_told_and_removed(tmp_path: Path) -> None:
    def generated(*options: str) -> Result:
        return CliRunner().invoke(generate, ["--out", str(tmp_path), *options])

    assert generated().exit_code == 0
    left_over = tmp_path / "tokenpulse-operations" / "old.json"
    left_over.write_text("{}")
    foreign = tmp_path / "another-team" / "theirs.json"
    foreign.parent.mkdir()
    foreign.write_text("{}")
    told = generated("--check")
    assert (told.exit_code, told.stdout.count("\n")) == (1, 1)
    assert "old.json" in told.stdout
    assert generated().exit_code == 0
    assert not left_over.exists()
    assert foreign.exists()
    written = {path.name for path in tmp_path.glob("tokenpulse-*/*.json")}
    assert written == {f"{name}.json" for name in BOARDS}


@board_names
def test_grafanas_schema_knows_every_key(name: str) -> None:
    text = encode(BOARDS[name])
    known = json.loads(encode(Dashboard.from_json(json.loads(text))))
    # Reading sets the default again, which hides links in a menu.
    for shown in hidden_in_menus(known):
        del shown["placement"]
    assert encode(known) == text


def hidden_in_menus(node: Any) -> list[dict[str, Any]]:
    """Return all parts of a board that are shown in a menu only."""
    found = [node] if isinstance(node, dict) and node.get("placement") == "inControlsMenu" else []
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found + [hidden for part in parts for hidden in hidden_in_menus(part)]


@board_names
def test_no_link_and_no_switch_is_hidden_in_a_menu(name: str) -> None:
    assert BOARDS[name]["links"]
    assert hidden_in_menus(BOARDS[name]) == []


def test_an_unknown_key_does_not_survive_the_schema() -> None:
    known = Dashboard.from_json({**BOARDS["live"], "colour": "red"})
    assert "colour" not in json.loads(encode(known))


# -- whole -----------------------------------------------------------------------------------------


@board_names
def test_panels_and_queries_have_names_of_their_own(name: str) -> None:
    board = BOARDS[name]
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in panels(board) + rows]
    assert len({*ids}) == len(ids)
    assert min(ids) > 0
    titles = Counter(panel["title"] for panel in panels(board))
    assert [title for title, times in titles.items() if times > 1] == []
    for panel in panels(board):
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert all(letters)
        assert len({*letters}) == len(letters), panel["title"]


@board_names
def test_every_panel_says_what_it_is_and_in_which_unit(name: str) -> None:
    for panel in panels(BOARDS[name]):
        assert panel["title"]
        assert len(panel["description"]) > 10
        if panel["type"] != "text":
            field = panel["fieldConfig"]["defaults"]
            assert field.get("unit") or field.get("mappings"), panel["title"]
            assert field["thresholds"]["steps"][0]["value"] is None


@board_names
def test_no_value_is_replaced_by_an_empty_text(name: str) -> None:
    # Grafana then writes nothing, as it did for every number of alerts but 0.
    texts = re.findall(r'"text": "([^"]*)"', json.dumps(BOARDS[name]["panels"]))
    assert texts
    assert all(texts)


@board_names
def test_the_names_of_a_matrix_have_no_colour_and_a_link_of_their_own(name: str) -> None:
    for panel in panels(BOARDS[name]):
        (kind, *_) = [step["id"] for step in panel.get("transformations", ())] or [None]
        if kind != "groupingToMatrix":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert "cellOptions" not in defaults["custom"]
        assert "links" not in defaults
        cells, names = panel["fieldConfig"]["overrides"]
        assert (cells["matcher"]["options"], names["matcher"]["options"]) == ("number", "string")
        given = {one["id"]: one["value"] for one in names["properties"]}
        assert "custom.cellOptions" not in given
        (link,) = given["links"]
        assert "__field.name" not in link["url"]


@board_names
def test_panels_lie_side_by_side_on_the_grid(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@board_names
def test_a_board_is_marked_and_cannot_be_edited(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"tokenpulse-{name}"
    assert board["tags"] == ["tokenpulse"]
    assert board["timezone"] == "utc"
    assert board["refresh"]
    assert board["editable"] is False
    assert board["description"]


@board_names
def test_every_variable_that_is_used_exists_and_every_one_is_used(name: str) -> None:
    board = BOARDS[name]
    known = {*variables(board)}
    used = used_variables(json.dumps(board))
    assert used <= known
    assert known <= used


@board_names
def test_a_variable_depends_only_on_those_before_it(name: str) -> None:
    seen: set[str] = set()
    for variable, one in variables(BOARDS[name]).items():
        if one["type"] == "query":
            assert used_variables(one["query"]) <= seen, variable
        seen.add(variable)


def test_the_variables_of_the_live_board_are_a_chain() -> None:
    found = variables(BOARDS["live"])
    assert used_variables(found["region"]["query"]) == {"job"}
    assert used_variables(found["model"]["query"]) == {"job", "region"}
    assert used_variables(found["channel"]["query"]) == {"job", "region", "model"}


# -- between boards, and from alerts ---------------------------------------------------------------


@board_names
def test_each_board_links_to_all_others(name: str) -> None:
    board = BOARDS[name]
    linked = {link["url"] for link in board["links"]}
    assert linked == {f"/d/{uid}" for uid in BY_UID if uid != board["uid"]}


@board_names
def test_every_link_of_a_cell_leads_to_a_board_and_its_variables(name: str) -> None:
    urls = re.findall(r'"url": "(/d/[^"]*)"', json.dumps(BOARDS[name]))
    assert urls
    for url in urls:
        path, _, query = url.partition("?")
        board = BY_UID[path.removeprefix("/d/")]
        assert {*re.findall(r"var-(\w+)=", query)} <= {*variables(board)}, url


def test_every_alert_leads_to_a_board_with_its_variables_and_to_a_runbook() -> None:
    rules = [rule for text in rule_files().values() for rule in alerts_in(text)]
    assert rules
    for rule in rules:
        url = rule["annotations"]["dashboard_url"]
        match = re.fullmatch(r"https://grafana\.example/d/([\w-]+)\?orgId=1(.*)", url)
        assert match, url
        opened = [int(panel) for panel in re.findall(r"viewPanel=(\d+)", match[2])]
        # Not one of a collapsed row, which hides it once the panel is closed.
        assert set(opened) <= {panel["id"] for panel in BY_UID[match[1]]["panels"]}, url
        wanted = {*re.findall(r"var-(\w+)=", match[2])}
        assert wanted <= {*variables(BY_UID[match[1]])}, url
        runbook = rule["annotations"]["runbook_url"].rpartition("/")[2]
        assert (ROOT / "docs" / "runbooks" / runbook).is_file(), runbook


# -- true to the catalogue -------------------------------------------------------------------------


def every_expression() -> dict[str, str]:
    """Name -> PromQL with the variables at their first values."""
    asked = [*targets(), *annotations(), *(one for one, _ in label_queries())]
    return {
        f"{one.name} {at}": filled_in(one.expr, defaults(BOARDS[one.board]))
        for at, one in enumerate(asked)
    }


def test_every_metric_and_label_is_of_the_catalogue() -> None:
    labels = {spec.name: {*spec.labels, "job"} for spec in SPECS}
    for spec in SPECS:
        if spec.kind == "histogram":
            for suffix in ("_bucket", "_sum", "_count"):
                labels[spec.name + suffix] = {*labels[spec.name], "le"}
    for name, expr in every_expression().items():
        found = SELECTOR.findall(expr if "{" in expr else f"{expr}{{}}")
        assert found, name
        for metric, matchers in found:
            if metric not in OF_PROMETHEUS:
                matched = {label for label, _, _ in MATCHER.findall(matchers)}
                assert matched <= labels[metric], f"{name}: {metric}"


def test_every_window_is_published_by_the_exporter_as_it_comes() -> None:
    published = window_plan(Settings())
    for one in targets():
        window = variables(BOARDS[one.board]).get("window", {})
        for _, matchers in SELECTOR.findall(one.expr):
            found = {label: value for label, _, value in MATCHER.findall(matchers)}
            if "scope" in found:
                choices = [option["value"] for option in window.get("options", ())]
                wanted = choices if found["window"] == "$window" else found["window"].split("|")
                for span in wanted:
                    assert found["scope"] in published[span], one.name


def test_windows_are_read_and_never_rated() -> None:
    gauges = {spec.name for spec in SPECS if spec.kind in ("gauge", "summary")}
    for one in targets():
        rated = re.findall(r"(?:rate|increase|delta|deriv)\((\w+)", one.expr)
        assert gauges.isdisjoint(rated), one.name


@needs_promtool
def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"board:query:{at}", "expr": expr}
        for at, expr in enumerate(every_expression().values())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


# -- layout ----------------------------------------------------------------------------------------


def test_the_first_screen_of_the_live_board_has_verdicts_and_graphs() -> None:
    fold = 17  # units of 38 pixels on a screen of 1440 x 900
    shown = [panel for panel in BOARDS["live"]["panels"] if panel["type"] != "row"]
    kinds = Counter(panel["type"] for panel in shown if panel["gridPos"]["y"] < fold)
    assert (kinds["stat"], kinds["timeseries"]) == (8, 4)
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown) <= 60


@board_names
def test_graphs_of_all_models_or_regions_show_a_few_that_lead_to_their_place(name: str) -> None:
    legends = {"{{model}}", "{{gen_ai_request_model}}", "{{region}}", "{{channel}}"}
    for panel in panels(BOARDS[name]):
        queries = [
            query for query in panel.get("targets", ()) if query.get("legendFormat") in legends
        ]
        if panel["type"] != "timeseries" or not queries:
            continue
        (query,) = queries
        assert re.search(r"\b(top|bottom)k\(8, ", query["expr"]), panel["title"]
        links = [
            link["url"]
            for override in panel["fieldConfig"]["overrides"]
            for given in override["properties"]
            if given["id"] == "links"
            for link in given["value"]
        ]
        label = query["legendFormat"].strip("{}")
        assert [f"labels.{label}" in url for url in links] == [True], panel["title"]


def test_layouts_are_those_that_were_reviewed() -> None:
    golden = ROOT / "tests" / "golden" / "board-layouts.txt"
    assert "\n".join(map(layout, BOARDS.values())) == golden.read_text()
