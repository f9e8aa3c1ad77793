"""The Grafana dashboards: generated, whole, and true to catalogue, policies and alert rules."""

import json
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from alerts.rules.build import build
from exporters.catalogue.requests import SPECS
from exporters.windows.plan import window_plan
from grafana import lines
from grafana.generate import documents, encode
from slo.health_limits import BEHIND_AFTER_S, MANY_WAITING, STALE_AFTER_S
from slo.policy.loading import load_policies, shipped
from slo.policy.policy import LatencyThresholdObjective
from streams.config.settings import Settings
from streams.events.fields import OUTCOMES
from streams.state.measures import EXPORTED_QUANTILES
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
from tests.support.rule_cases import alerts_in

POLICY = yaml.safe_load((ROOT / "slo/policies/default.yaml").read_text())
OBJECTIVES = {one["name"]: one for one in POLICY["objectives"]}
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
    done = subprocess.run(
        [sys.executable, "-m", "grafana.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_dashboard_that_no_code_generates_is_told_and_removed(tmp_path: Path) -> None:
    generate = [sys.executable, "-m", "grafana.generate", "--out", str(tmp_path)]
    subprocess.run(generate, cwd=ROOT, check=True, capture_output=True)
    left_over = tmp_path / "tokenpulse-operations" / "old.json"
    left_over.write_text("{}")
    foreign = tmp_path / "another-team" / "theirs.json"
    foreign.parent.mkdir()
    foreign.write_text("{}")
    told = subprocess.run([*generate, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (told.returncode, told.stdout.count("\n")) == (1, 1)
    assert "old.json" in told.stdout
    subprocess.run(generate, cwd=ROOT, check=True, capture_output=True)
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
    ids = [panel["id"] for panel in board["panels"]]
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
    texts = build(load_policies([*shipped(), ROOT / "tests" / "rules" / "shapes.yaml"])).values()
    rules = [rule for text in texts for rule in alerts_in(text)]
    assert rules
    for rule in rules:
        url = rule["annotations"]["dashboard_url"]
        match = re.fullmatch(r"https://grafana\.example/d/([\w-]+)\?orgId=1(.*)", url)
        assert match, url
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


# -- true to the policy ----------------------------------------------------------------------------


def colours(name: str, title: str) -> list[tuple[float | None, str]]:
    (panel,) = [
        panel for panel in panels(BOARDS[name]) if panel["title"].partition(" (target")[0] == title
    ]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [(step["value"], step["color"]) for step in steps]


def share(text: str) -> float:
    return float(Fraction(text.rstrip("%")) / 100)


def level_s(objective: str) -> float:
    (level,) = OBJECTIVES[objective]["levels"]
    return float(Fraction(level["above"].removesuffix("ms")) / 1000)


def test_latencies_turn_red_at_the_policys_target() -> None:
    for what in ("TTFT", "TPOT"):
        red = [(None, "green"), (level_s(f"{what.lower()}-p95"), "red")]
        for name, title in (
            ("live", f"P95 {what}"),
            ("live", f"{what} percentiles"),
            ("live", f"P95 {what} by model"),
            ("live", f"P95 {what} by region"),
            ("daily", f"P95 {what}"),
            ("daily", f"P95 {what}, day by day"),
        ):
            assert colours(name, title) == red, title


def test_errors_turn_red_where_availability_misses_the_target() -> None:
    target = Fraction(OBJECTIVES["uptime"]["target"].rstrip("%")) / 100
    assert colours("live", "Error ratio") == [(None, "green"), (float(1 - target), "red")]
    assert colours("daily", "Uptime") == [(None, "red"), (float(target), "green")]


def test_the_cache_has_the_colours_of_its_levels_and_bands() -> None:
    objective = OBJECTIVES["cache-hit"]
    below = {level["severity"]: share(level["below"]) for level in objective["levels"]}
    moat = share(objective["bands"][1]["from"])
    wanted = [(None, "red"), (below["page"], "orange"), (below["ticket"], "green"), (moat, "blue")]
    assert colours("cache", "Cache hit ratio") == wanted
    assert colours("live", "Cache hit ratio") == wanted


def test_burn_rates_have_the_colours_of_the_rules() -> None:
    # Of 30 days: 2 % in an hour is 14.4 times, 10 % in three days is once.
    assert colours("live", "Burn rate, 1h") == [(None, "green"), (1.0, "orange"), (14.4, "red")]


def test_volume_turns_red_where_the_rule_does() -> None:
    (level,) = OBJECTIVES["token-volume"]["levels"]
    assert colours("tokens", "Volume against the usual") == [
        (None, "red"),
        (share(level["below"]), "green"),
    ]


@board_names
def test_every_board_says_in_a_word_whether_it_can_be_trusted(name: str) -> None:
    (data,) = [panel for panel in panels(BOARDS[name]) if panel["title"] == "Data"]
    values, late, unreadable = data["fieldConfig"]["defaults"]["mappings"]
    assert {value: said["text"] for value, said in values["options"].items()} == {
        "0": "GOOD",
        "1": "PARTIAL",
    }
    assert (late["options"]["from"], late["options"]["to"]) == (2, 15)
    assert unreadable["options"]["from"] == 16
    (target,) = data["targets"]
    assert f"> bool {STALE_AFTER_S}" in target["expr"]
    assert f"> bool {BEHIND_AFTER_S}" in target["expr"]


def test_the_pipeline_board_shows_each_sign_by_itself() -> None:
    assert colours("pipeline", "Exporter age") == [(None, "green"), (STALE_AFTER_S, "red")]
    assert colours("pipeline", "Worker age") == [(None, "green"), (STALE_AFTER_S, "red")]
    assert colours("pipeline", "Freshness") == [(None, "green"), (BEHIND_AFTER_S, "red")]
    assert colours("pipeline", "Lag") == [(None, "green"), (MANY_WAITING, "red")]
    titles = {panel["title"] for panel in panels(BOARDS["pipeline"])}
    assert {"State", "Window complete", "Coverage"} <= titles


def test_names_of_one_kind_have_colours_of_their_own() -> None:
    assert {*lines.OUTCOMES} == {*OUTCOMES}
    assert {*lines.QUANTILES} == {str(ratio) for ratio in EXPORTED_QUANTILES}
    for kind in (lines.OUTCOMES, lines.QUANTILES, lines.TOKEN_TYPES):
        assert len({line.colour for line in kind.values()}) == len(kind)


def test_a_target_lies_on_the_axis_while_all_is_well() -> None:
    seen = 0
    for board in BOARDS.values():
        for panel in panels(board):
            if panel["type"] != "timeseries":
                continue
            field = panel["fieldConfig"]["defaults"]
            limits = [step["value"] for step in field["thresholds"]["steps"] if step["value"]]
            if limits and "max" not in field:
                seen += 1
                assert field["custom"]["axisSoftMax"] > max(limits), panel["title"]
    assert seen > 5


def test_the_first_screen_of_the_live_board_has_verdicts_and_graphs() -> None:
    fold = 17  # units of 38 pixels on a screen of 1440 x 900
    shown = [panel for panel in BOARDS["live"]["panels"] if panel["type"] != "row"]
    kinds = Counter(panel["type"] for panel in shown if panel["gridPos"]["y"] < fold)
    assert (kinds["stat"], kinds["timeseries"]) == (8, 4)
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown) <= 60


def test_layouts_are_those_that_were_reviewed() -> None:
    golden = ROOT / "tests" / "golden" / "board-layouts.txt"
    assert "\n".join(map(layout, BOARDS.values())) == golden.read_text()


@pytest.mark.parametrize("name", ["live", "daily", "sla", "cache", "tokens"])
@pytest.mark.parametrize("title", ["Tokens known", "Cached tokens known", "TTFT known"])
def test_a_board_of_requests_shows_for_how_much_of_them_a_measure_is_known(
    name: str, title: str
) -> None:
    assert colours(name, title) == [(None, "orange"), (0.5, "green")]


def test_another_policy_gives_other_colours_and_words() -> None:
    def changed(one: Any) -> Any:
        if isinstance(one, LatencyThresholdObjective):
            (level,) = one.levels
            return one.model_copy(
                update={"levels": (level.model_copy(update={"above_us": 123_000}),)}
            )
        return one

    (policy,) = load_policies(("default",))
    other = policy.model_copy(update={"objectives": tuple(map(changed, policy.objectives))})
    text = documents([other])["tokenpulse-operations/live.json"]
    assert '"value": 0.123' in text
    assert "under 123 ms" in text
    assert "300 ms" not in text
    nothing = documents([policy.model_copy(update={"objectives": ()})])
    for board in nothing.values():
        assert '"value": 0.3' not in board
