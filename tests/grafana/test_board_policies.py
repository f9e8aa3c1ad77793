"""Colours and target lines of the dashboards are those of the policy."""

from fractions import Fraction
from typing import Any

import pytest
import yaml

from grafana import lines
from grafana.generate import documents
from slo.health_limits import BEHIND_AFTER_S, MANY_WAITING, STALE_AFTER_S
from slo.policy.loading import load_policies
from slo.policy.policy import LatencyThresholdObjective
from streams.events.fields import OUTCOMES
from streams.state.measures import EXPORTED_QUANTILES
from tests.support.grafana_boards import (
    BOARDS,
    panels,
)
from tests.support.paths import ROOT

POLICY = yaml.safe_load((ROOT / "slo/policies/default.yaml").read_text())
board_names = pytest.mark.parametrize("name", BOARDS)
OBJECTIVES = {one["name"]: one for one in POLICY["objectives"]}


def colours(name: str, title: str) -> list[tuple[float | None, str]]:
    (panel,) = [panel for panel in panels(BOARDS[name]) if panel["title"] == title]
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
    assert colours("live", "Cache hits") == wanted


@board_names
def test_a_number_that_is_unknown_never_has_the_colour_of_a_good_one(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] != "stat":
            continue
        config = panel["fieldConfig"]["defaults"]
        absent = config["mappings"][-1]["options"]
        assert absent["match"] == "null+nan", panel["title"]
        assert absent["result"]["text"] == config["noValue"]
        assert absent["result"]["color"] in ("#808080", "red"), panel["title"]


def test_verdicts_and_targets_have_their_colours_on_the_sla_board_for_any_objective() -> None:
    for title, queried in (
        ("Time by verdict", lines.VERDICTS),
        ("Attainment against target", lines.TARGET),
    ):
        (panel,) = [panel for panel in panels(BOARDS["sla"]) if panel["title"] == title]
        given = {
            override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            if override["matcher"]["id"] == "byRegexp"
        }
        assert given == {name: line.colour for name, line in queried.items()}
    verdicts = {pattern[2:-2] for pattern in lines.VERDICTS}
    assert verdicts == {"up", "down", "unknown", "excluded"}


@board_names
def test_lines_of_one_graph_with_many_names_have_different_colours(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "timeseries":
            many = panel["options"]["legend"]["displayMode"] == "table"
            mode = panel["fieldConfig"]["defaults"]["color"]["mode"]
            assert mode == ("palette-classic" if many else "palette-classic-by-name"), panel[
                "title"
            ]


def test_a_latency_shows_its_target_beside_its_value() -> None:
    for what in ("TTFT", "TPOT"):
        (panel,) = [panel for panel in panels(BOARDS["live"]) if panel["title"] == f"P95 {what}"]
        target_ms = level_s(f"{what.lower()}-p95") * 1000
        assert panel["fieldConfig"]["defaults"]["displayName"] == f"target {target_ms:g} ms"
        assert panel["options"]["textMode"] == "value_and_name"


def test_burn_rates_have_the_colours_of_the_rules() -> None:
    # Of 30 days: 2 % in an hour is 14.4 times, 10 % in three days is once.
    assert colours("live", "Burn rate, 1h") == [(None, "green"), (1.0, "orange"), (14.4, "red")]


def test_volume_turns_red_where_the_rule_does() -> None:
    (level,) = OBJECTIVES["token-volume"]["levels"]
    assert colours("tokens", "Volume vs the usual") == [
        (None, "red"),
        (share(level["below"]), "green"),
    ]


@board_names
def test_every_board_says_in_a_word_whether_it_can_be_trusted(name: str) -> None:
    (data,) = [panel for panel in panels(BOARDS[name]) if panel["title"] == "Data"]
    values, late, unreadable, absent = data["fieldConfig"]["defaults"]["mappings"]
    assert {value: said["text"] for value, said in values["options"].items()} == {
        "0": "GOOD",
        "1": "PARTIAL",
    }
    assert (late["options"]["from"], late["options"]["to"]) == (2, 15)
    assert unreadable["options"]["from"] == 16
    assert absent["options"]["result"] == {"text": "NO EXPORTER", "color": "red"}
    (target,) = data["targets"]
    assert f"> bool {STALE_AFTER_S}" in target["expr"]
    assert f"> bool {BEHIND_AFTER_S}" in target["expr"]


def test_the_pipeline_board_shows_each_sign_by_itself() -> None:
    assert colours("pipeline", "Exporter age") == [(None, "green"), (STALE_AFTER_S, "red")]
    assert colours("pipeline", "Worker age") == [(None, "green"), (STALE_AFTER_S, "red")]
    assert colours("pipeline", "Freshness") == [(None, "green"), (BEHIND_AFTER_S, "red")]
    assert colours("pipeline", "Lag") == [(None, "green"), (MANY_WAITING, "red")]
    titles = {panel["title"] for panel in panels(BOARDS["pipeline"])}
    assert {"State", "Completeness", "Coverage"} <= titles


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
