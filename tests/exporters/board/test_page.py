"""The live board's HTML: what is shown, what is not known, and how the page is built."""

import dataclasses
import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import exporters.board.facts as facts_module
from exporters.board.facts import (
    CustomerFailures,
    Incident,
    LiveState,
    TileValue,
)
from exporters.board.incidents.notifications import since_text
from exporters.board.live.page import FRAGMENTS, fragments, with_keys
from exporters.board.live.routes import build, live_json
from exporters.formatting import budget_left
from streams.events.fields import OTHER
from tests.support.board_markup import parsed, shown_text, state, whole
from tests.support.board_samples import WELL, WITH_INCIDENTS
from tests.support.checks import not_none

STATIC = Path(facts_module.__file__).parent / "static"


def test_what_is_not_known_is_called_so_and_never_zero() -> None:
    nothing = TileValue(None, 0, 0.3, "unknown", (None,) * 60)
    facts = dataclasses.replace(
        WELL,
        ttft_p95_s=nothing,
        availability_ratio=nothing,
        freshness=dataclasses.replace(
            WELL.freshness, newest_event_age_s=None, lag_records=None, state="unknown"
        ),
    )
    parts = fragments(state(facts))
    for key in ("ttft", "availability"):
        tile = not_none(re.search(rf'id="tile-{key}".*?</li>', parts["tiles"], re.DOTALL)).group()
        assert 'class="value"><span class="num none" data-value="">unknown</span>' in tile
        assert "Last 60 minutes: nothing known." in tile
        assert "Unknown" in tile
    told_words = shown_text(parts["status"])
    assert "Newest event unknown" in told_words
    assert "Waiting in Kafka unknown" in told_words


def test_the_full_value_stands_beside_what_is_shown() -> None:
    parts = fragments(state(WITH_INCIDENTS))
    assert 'data-value="0.2897">290' in parts["tiles"]
    assert 'data-value="0.98714">98.7' in parts["tiles"]
    assert 'data-value="0.29966">299.7' in parts["models"], "kept off the target of 300 ms"
    assert 'data-value="15234">15,234' in parts["status"]


def test_a_day_of_99_99999_percent_is_not_shown_as_100() -> None:
    assert "2026-10-27: 99.999\u00a0%, Met" in fragments(state(WITH_INCIDENTS))["uptime"]


def test_a_budget_is_left_spent_or_overdrawn() -> None:
    said = [budget_left(one) for one in (None, 0.7318, 0.0, -0.0042, -2.471)]
    assert said == ["unknown", "73.2 % left", "all spent", "overdrawn by 0.42 %",
                    "overdrawn by 247 %"]  # fmt: skip


def test_nothing_wrong_is_said_in_words() -> None:
    assert "No incidents." in fragments(state(WELL))["incidents"]


def test_a_state_is_always_told_by_a_word_and_a_shape() -> None:
    for part in fragments(state(WITH_INCIDENTS)).values():
        for chip in re.findall(r'<span class="chip".*?</span>', part):
            assert "<use href=" in chip
            assert re.search(r"</svg>(Met|At risk|Missed|Unknown|Not paged|Note)</span>", chip)


def test_facts_without_any_content_make_a_page() -> None:
    empty = dataclasses.replace(
        WELL, objectives=(), history=(), models=(), regions=(), requests=0, tokens=0
    )
    words = shown_text(whole(empty))
    assert "No policy sets an objective." in words
    assert "No policy sets an availability objective." in words
    assert "No requests in the last 5 minutes." in words


def test_without_facts_the_page_says_why_and_shows_no_number() -> None:
    problem = "Redis at 127.0.0.1:6379 does not answer"
    for name, part in fragments(state(None, problem)).items():
        if name == "details":  # not on the page unless there are some
            assert part == ""
            continue
        assert (problem if name in ("status", "incidents") else "Not known now.") in part, name
        assert "data-value" not in part


def test_a_trouble_is_known_again_while_only_its_numbers_change() -> None:
    def incidents(*words: Any) -> list[str]:
        return [one.key for one in with_keys([Incident("page", one, None, "A") for one in words])]

    assert incidents("eu fails 41.2 %, 1,204 of 2,951") == incidents("eu fails 9 %, 77 of 3,000")
    assert incidents("eu fails 41 %") != incidents("us fails 41 %")
    ages = ("59 s", "1 min", "3 min 20 s", "2 h")
    assert len({key for age in ages for key in incidents(f"no sign of life for {age}.")}) == 1
    first, second = incidents("model 4 fails", "model 5 fails")
    assert first != second


def test_the_page_has_no_script_or_style_of_its_own_and_asks_nobody_else() -> None:
    outline = parsed(whole(WITH_INCIDENTS))
    assert not [1 for tag, _ in outline.elements if tag == "style"]
    names = {name for _, attrs in outline.elements for name in attrs}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    for tag, name, value in outline.values:
        if name in ("href", "src"):
            assert not re.match(r"[a-z]+:|/", value), f"{tag} leads to {value}"


def test_parts_can_be_exchanged_one_by_one() -> None:
    markup = whole(WITH_INCIDENTS)
    for name, part in fragments(state(WITH_INCIDENTS)).items():
        assert re.search(rf'<section id="{name}"[^>]*>{re.escape(part)}</section>', markup)
    assert set(fragments(state(WELL))) == set(FRAGMENTS)
    assert re.fullmatch("[0-9a-f]{16}", build())


def test_headings_go_down_one_level_at_a_time() -> None:
    levels = [
        int(tag[1]) for tag, _ in parsed(whole(WITH_INCIDENTS)).elements if re.match(r"h\d", tag)
    ]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_id_is_there_once_and_every_reference_leads_to_one() -> None:
    outline = parsed(whole(WITH_INCIDENTS))
    ids = [value for _, name, value in outline.values if name == "id"]
    assert len(ids) == len(set(ids))
    used = [value for _, name, value in outline.values if name == "aria-labelledby"]
    used += [value[1:] for _, name, value in outline.values if name == "href" and value[0] == "#"]
    assert set(used) <= set(ids)


def test_every_table_has_a_caption_and_heads_with_a_scope() -> None:
    markup = whole(WITH_INCIDENTS)
    tables = re.findall(r"<table.*?</table>", markup, re.DOTALL)
    assert len(tables) == 5
    for table in tables:
        assert "<caption" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))


def test_the_json_holds_all_facts_and_says_why_there_are_none() -> None:
    found = json.loads(live_json(state(WITH_INCIDENTS)))
    assert found["problem"] is None
    assert found["facts"]["ttft_p95_s"]["value"] == 0.2897
    assert found["facts"]["models"][0]["name"] == "aurora-4-medium"
    assert json.loads(live_json(state(None, "why"))) == {"problem": "why", "facts": None}


def test_the_script_stays_small() -> None:
    assert len((STATIC / "board.js").read_text().splitlines()) < 200


def test_a_trouble_leads_to_its_runbook_where_people_read_them() -> None:
    there = LiveState(WITH_INCIDENTS, None, 1.0, 'https://git.example/"runbooks"/')
    links = re.findall(r'<a href="([^"]*)"', fragments(there)["incidents"])
    names = [one.runbook for one in WITH_INCIDENTS.incidents if one.runbook]
    assert names
    assert [html.unescape(link) for link in links] == [
        f'https://git.example/"runbooks"/{name}.md' for name in names
    ]
    own = re.findall(r'<a href="([^"]*)"', fragments(state(WITH_INCIDENTS))["incidents"])
    assert own == [f"runbooks/{name}" for name in names]


@pytest.mark.parametrize(
    ("complete", "rebuilt", "word"),
    [(True, False, "complete"), (True, True, "rebuilt"), (False, True, "incomplete")],
)
def test_the_window_of_rebuilt_data_is_not_called_complete(
    complete: bool, rebuilt: bool, word: str
) -> None:
    fresh = dataclasses.replace(WELL.freshness, complete=complete, rebuilt=rebuilt)
    part = fragments(state(dataclasses.replace(WELL, freshness=fresh)))["status"]
    assert f"<dd>{word}</dd>" in part


def test_the_requests_of_the_window_and_of_availability_have_one_name_each() -> None:
    part = shown_text(fragments(state(WELL))["status"])
    assert (
        "15,234 requests (availability counts 15,200: with probes, without client errors)" in part
    )


def test_the_banner_says_since_when_and_how_much_is_affected() -> None:
    incident = Incident(
        "page",
        "Region eu-west-1 fails.",
        None,
        since_s=WELL.made_at_s - 65,
        affected_ratio=0.104,
    )
    facts = dataclasses.replace(
        WELL, headline=f"{incident.words} And 1 more.", incidents=(incident,)
    )
    since = f"seen since {since_text(WELL.made_at_s - 65, WELL.made_at_s)} , for 1 min 5 s"
    assert f"{since} · 10.4 % of the fleet affected" in shown_text(
        fragments(state(facts))["status"]
    )
    # Of an older incident than the one in the headline, the line would be wrong.
    other = dataclasses.replace(facts, headline="These numbers are old: no worker.")
    assert since not in shown_text(fragments(state(other))["status"])


def test_the_banner_says_how_many_customers_have_failures() -> None:
    def words(customers: int) -> str:
        worst = (
            CustomerFailures(24 * "a", "Acme Corp", 12),
            CustomerFailures(24 * "b", 24 * "b", 3),
        )
        facts = dataclasses.replace(
            WELL, failing_customers=customers, worst_customers=worst[:customers]
        )
        return shown_text(fragments(state(facts))["status"])

    failures = "with failures in the last minute: Acme Corp 12"
    assert f"tokens; 1,204 customers {failures}, bbbbbbbb… 3, …" in words(1_204)
    assert f"tokens; 1 customer {failures}" in words(1)
    assert "with failures" not in words(0)


def test_the_customers_beyond_the_limit_are_others_in_the_banner() -> None:
    worst = (CustomerFailures(OTHER, OTHER, 12), CustomerFailures(24 * "b", "Acme Corp", 3))
    facts = dataclasses.replace(WELL, failing_customers=2, worst_customers=worst)
    page = fragments(state(facts))["status"]
    said = "at least 2 customers with failures in the last minute: others 12, Acme Corp 3"
    assert said in shown_text(page)
    assert 'title="others"' in page
