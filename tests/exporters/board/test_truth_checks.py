"""The comparison of board, Prometheus and Alertmanager finds each kind of contradiction."""

from dataclasses import replace

import pytest

from exporters.board.facts import State
from tests.support.truth_checks import Truth
from tests.support.truth_watch import BoardView, Moment, RuleAlert, SentAlert, Shown

NAME = "TokenpulseOutage"
RULE = RuleAlert(NAME, (("alertname", NAME),), "page", True, False, 0.0)
SHOWN = Shown(NAME, "page", "Region eu-west-1: 90 % failed.", "firing", 40.0, is_over=False)
END_S, FAULT = 120, range(40, 80)


def board(at_s: float, is_red: bool) -> BoardView:
    """A board of one outage, or a healthy one."""
    state: State = "breached" if is_red else "ok"
    notification = "Paging since 20:54 UTC" if is_red else "Not paged"
    incidents = (SHOWN,) if is_red else ()
    return BoardView(state, "", notification, incidents, frozenset(), at_s, is_stale=False)


def seen(rules_lag_s: int = 8, is_silent: bool = False, is_kept: bool = False) -> list[Moment]:
    """Two minutes with one outage; Prometheus and Alertmanager see it `rules_lag_s` later."""
    moments = []
    for at_s in range(END_S):
        fires = at_s - rules_lag_s in FAULT
        rules = (replace(RULE, is_kept=is_kept),) if fires else ()
        sent = (SentAlert(NAME, "page", is_silent),) if fires else ()
        moments.append(Moment(at_s, board(at_s, at_s in FAULT), rules, sent, None))
    return moments


def kinds(moments: list[Moment]) -> set[str]:
    return {found.kind for found in Truth(moments).contradictions()}


@pytest.mark.parametrize("lag_s", [0, 8])
def test_prometheus_may_be_a_scrape_and_an_evaluation_behind(lag_s: int) -> None:
    assert kinds(seen(lag_s)) == set()


def test_an_alert_that_begins_or_ends_much_later_than_on_the_board_is_found() -> None:
    assert kinds(seen(25)) == {
        "an alert fires that the board does not name",
        "the banner is greener than an alert",
        "the banner does not say who is notified",
        "the board notifies and Prometheus does not",
        "the board says paging and Alertmanager pages no one",
        "Alertmanager pages and the board does not say so",
    }


def test_a_page_that_alertmanager_silences_is_not_paging() -> None:
    assert kinds(seen(is_silent=True)) == {"the board says paging and Alertmanager pages no one"}


def test_a_kept_alert_needs_a_banner_that_is_not_green() -> None:
    moments = seen(is_kept=True)
    yellow = [
        replace(moment, board=replace(moment.board, state="at_risk"))
        if moment.board.state == "breached"
        else moment
        for moment in moments
    ]
    found = Truth(yellow).contradictions()
    # Below the yellow banner is an incident of now.
    assert {one.kind for one in found} == {"the banner is greener than what is below it"}
    over = [replace(SHOWN, is_over=True)]
    ended = [
        replace(moment, board=replace(moment.board, incidents=tuple(over)))
        if moment.board.incidents
        else moment
        for moment in yellow
    ]
    assert kinds(ended) == set()


@pytest.mark.parametrize("part", ["breached", "at_risk"])
def test_a_banner_better_than_a_card_is_found(part: str) -> None:
    moments = seen()
    moments[20] = replace(
        moments[20], board=replace(moments[20].board, parts=frozenset({"ok", part}))
    )
    assert kinds(moments) == {"the banner is greener than what is below it"}


def test_a_page_that_says_something_else_than_its_facts_is_found() -> None:
    moments = seen()
    moments[20] = replace(moments[20], shown=("Unhealthy", "Paging since 20:54 UTC"))
    moments[60] = replace(moments[60], shown=("Unhealthy", "Paging since 20:54 UTC"))
    found = Truth(moments).contradictions()
    assert [(one.kind, one.at_s) for one in found] == [("the page differs from its facts", 20)]
