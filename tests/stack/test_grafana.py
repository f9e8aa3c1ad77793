"""Every query of every dashboard answers, against a real Prometheus that scrapes the real stack."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from time import monotonic, sleep

import pytest

from tests.support.alerting_stack import PROMETHEUS
from tests.support.grafana_boards import (
    BOARDS,
    Asked,
    annotations,
    defaults,
    filled_in,
    label_queries,
    targets,
    used_variables,
    variables,
)
from tests.support.grafana_stack import CUSTOMER, GrafanaStack
from tests.support.grafana_stack import Prometheus as Server
from tests.support.programs import needed_programs
from tests.support.servers import wait_until

pytestmark = [*needed_programs(prometheus=PROMETHEUS), pytest.mark.timeout(300)]
ANSWERS_S = 120
# Query -> why it may be empty where all is well.
MAY_BE_EMPTY = {
    "pipeline: Halted partitions / A": "only a partition that needs a person is in it",
}
MAY_BE_EMPTY_CHOSEN = {
    **MAY_BE_EMPTY,
    "cache: Models / E": "the chosen model has a price",
}
# The stack is younger than five minutes.
YOUNG = {"__interval": "5s"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with GrafanaStack(tmp_path_factory.mktemp("grafana")) as stack:
        yield stack.prometheus


def all_answer(server: Server, asked: Mapping[str, str]) -> None:
    """Fail unless each has answered, not necessarily all at one moment."""
    left = dict(asked)
    deadline_s = monotonic() + ANSWERS_S
    while left := {name: expr for name, expr in left.items() if not server.series(expr)}:
        if monotonic() > deadline_s:
            pytest.fail("no answer:\n" + "\n".join(f"{name}: {left[name]}" for name in left))
        sleep(1)


def queries(values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Name -> PromQL, with each board's variables set as `values` of it says, else as at first."""
    asked: list[Asked] = [*targets(), *annotations()]
    return {
        one.name: filled_in(
            one.expr, {**defaults(BOARDS[one.board]), **YOUNG, **values.get(one.board, {})}
        )
        for one in asked
    }


def test_every_query_answers_when_a_board_is_opened(server: Server) -> None:
    asked = queries({})
    all_answer(server, {name: asked[name] for name in {*asked} - {*MAY_BE_EMPTY}})


def test_what_may_be_empty_exists_and_is_empty(server: Server) -> None:
    asked = queries({})
    for name, why in MAY_BE_EMPTY.items():
        assert why
        assert not server.series(asked[name]), f"{name} answers: take it from the list"


def test_every_variable_has_values_and_each_of_them_chosen_alone_shows_something(
    server: Server,
) -> None:
    chosen: dict[str, dict[str, str]] = {name: {} for name in BOARDS}
    preferred = {
        "model": "aurora-4-large",
        "policy": "contract",
        "objective": "minutes",
        "customer": CUSTOMER,
    }
    for asked, label in label_queries():
        board = BOARDS[asked.board]
        values = {**defaults(board), **chosen[asked.board]}
        found = server.labels(filled_in(asked.expr, values), label)
        assert found, asked.name
        value = preferred.get(label, found[0])
        assert value in found, asked.name
        chosen[asked.board][label] = re.escape(value).replace("\\", "\\\\")
    exprs = queries(chosen)
    all_answer(server, {name: exprs[name] for name in {*exprs} - {*MAY_BE_EMPTY_CHOSEN}})


def test_every_window_that_can_be_chosen_shows_something(server: Server) -> None:
    for name, board in BOARDS.items():
        for option in variables(board).get("window", {}).get("options", ()):
            asked = queries({name: {"window": option["value"]}})
            texts = {one.name: one.expr for one in targets() if one.board == name}
            wanted = {
                one: asked[one] for one, text in texts.items() if "window" in used_variables(text)
            }
            assert wanted
            all_answer(server, wanted)


def has_exemplars(server: Server, expr: str) -> bool:
    return bool(server.exemplars(expr))


def test_the_heatmaps_have_exemplars_that_carry_a_trace_id(server: Server) -> None:
    asked = [one for one in targets() if one.exemplar]
    assert len(asked) == 3
    for one in asked:
        expr = filled_in(one.expr, defaults(BOARDS[one.board]))
        wait_until(partial(has_exemplars, server, expr), one.name, ANSWERS_S)
        assert all(found["labels"]["trace_id"] for found in server.exemplars(expr))


def test_the_boards_show_what_prometheus_knows_of_the_alerts(server: Server) -> None:
    """The level that nobody can hold fires, so the table and the annotation have it."""
    asked = queries({})
    for name in ("live: Alerts that fire / A", "live: annotation Alerts"):

        def shows_it(name: str = name) -> bool:
            objectives = {one["metric"].get("objective") for one in server.series(asked[name])}
            return "cache-dream" in objectives

        wait_until(shows_it, name, ANSWERS_S)
