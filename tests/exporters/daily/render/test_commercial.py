"""The three questions in words: the unknown is left out, and dollars agree with each other."""

from dataclasses import replace

import pytest

from exporters.daily.day.facts import (
    CacheMargin,
    CacheRow,
    Comparison,
    DailyFacts,
    GrowthVerdict,
)
from exporters.daily.render.commercial import (
    GROWTH_TITLES,
    cache_answer,
    growth_answer,
    growth_table,
)
from exporters.daily.render.html import message
from exporters.daily.render.plain_text import plain_text
from tests.support.daily_samples import some_facts

TITLES = (*GROWTH_TITLES, "November a day, against October")


def margin(saved: float | None, lost: float | None, customer_lost: float = 0.0) -> CacheMargin:
    return CacheMargin(
        target_ratio=0.4,
        rows=(
            CacheRow("fleet", "", 0.45, saved, lost),
            CacheRow("model", "m", 0.45, saved, lost),
            CacheRow("customer", "a", 0.3, 5.0, customer_lost),
            CacheRow("customer", "b", 0.3, 5.0, customer_lost),
        ),
        unpriced_tokens=0,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, ""),
        (margin(None, None), ""),
        (margin(12.0, None), "Saved 12.00 USD."),
        (
            margin(30.0, 10.0),
            "Saved 30.00 USD, and lost 10.00 USD to models below a hit rate of 40 %: 75 % of what "
            "would be saved if these models reached it.",
        ),
        (
            replace(margin(30.0, 10.0), saved_week_before_usd=28.5),
            "Saved 30.00 USD (28.50 USD a week before), and lost 10.00 USD to models below a hit "
            "rate of 40 %: 75 % of what would be saved if these models reached it.",
        ),
        (
            margin(12.0, 0.0),
            "Saved 12.00 USD: no model with known cached tokens is below a hit rate of 40 %.",
        ),
        (
            margin(12.0, 0.0, 1.5),
            "Saved 12.00 USD: no model with known cached tokens is below a hit rate of 40 %. "
            "2 customers in the list stayed below it and lost 3.00 USD.",
        ),
        (
            replace(margin(12.0, 0.0), unpriced_tokens=9),
            "Saved 12.00 USD: no model with known cached tokens and a price is below a hit rate of "
            "40 %.",
        ),
    ],
)
def test_the_margin_of_the_cache_is_answered_in_a_sentence(
    found: CacheMargin | None, words: str
) -> None:
    assert cache_answer(found) == words


def compared(**verdicts: tuple[float | None, GrowthVerdict]) -> DailyFacts:
    """A board whose traffic has these comparisons: change, and what it is; others are unknown."""
    facts = some_facts()
    comparisons = tuple(
        Comparison(one.span, 1.0, None if by is None else 1.0, by, verdict)
        for one in facts.growth[0].comparisons
        for by, verdict in [verdicts.get(one.span, (None, "unknown"))]
    )
    growth = (replace(facts.growth[0], comparisons=comparisons), *facts.growth[1:])
    return replace(facts, growth=growth)


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (
            {"weekday": (0.004, "noise")},
            "Flat: 0.4 % more than a week before, which may be chance.",
        ),
        (
            {"weekday": (0.0, "noise"), "week": (-0.02, "noise")},
            "Flat: as many as a week before and 2 % less than in the 7 days before, which may be "
            "chance.",
        ),
        (
            {"weekday": (0.004, "noise"), "four_weeks": (0.086, "up")},
            "Growing: 8.6 % more than in the 28 days before; 0.4 % more than a week before, which "
            "may be chance.",
        ),
        (
            {"week": (-0.1, "down"), "month": (-0.2, "down")},
            "Falling: 10 % less than in the 7 days before and 20 % less a day than in the month "
            "before.",
        ),
        (
            {"weekday": (-0.1, "down"), "week": (0.2, "up")},
            "Mixed: 10 % less than a week before and 20 % more than in the 7 days before.",
        ),
        (
            {"weekday": (0.1, "unknown"), "week": (None, "unknown")},
            "Not known yet: 10 % more than a week before, but too few days are known to tell it "
            "from chance.",
        ),
        (
            {"weekday": (0.12, "up"), "week": (0.004, "noise"), "month": (0.8, "unknown")},
            "Growing: 12 % more than a week before; 0.4 % more than in the 7 days before, which "
            "may be chance; 80 % more a day than in the month before, but too few days are known "
            "to tell it from chance.",
        ),
        ({"weekday": (None, "unknown")}, ""),
    ],
)
def test_whether_tokens_grow_is_answered_in_a_sentence(
    verdicts: dict[str, tuple[float | None, GrowthVerdict]], words: str
) -> None:
    facts = compared(**verdicts)
    assert growth_answer(facts) == words
    assert (f"Are tokens growing? {words}\n" in plain_text(facts)) == bool(words)


def test_a_comparison_that_is_unknown_for_every_name_has_no_column() -> None:
    facts = some_facts()
    unknown = [
        replace(
            row,
            comparisons=tuple(
                replace(one, change_ratio=None, tokens=None, before=None, verdict="unknown")
                if one.span in ("week", "four_weeks")
                else one
                for one in row.comparisons
            ),
        )
        for row in facts.growth
    ]
    table = growth_table(replace(facts, growth=tuple(unknown)), TITLES)
    assert table.titles == ("Same weekday", "November a day, against October")
    assert {len(row.cells) for row in table.rows} == {2}
    assert table.note.endswith(" Not shown, as too few days are known: 7 days; 28 days.")


def test_a_first_day_says_once_that_there_is_nothing_to_compare_with() -> None:
    facts = some_facts()
    rows = [
        replace(
            row,
            comparisons=tuple(
                replace(one, change_ratio=None, before=None, verdict="unknown")
                for one in row.comparisons
            ),
        )
        for row in facts.growth
    ]
    facts = replace(facts, growth=tuple(rows))
    assert growth_table(facts, TITLES).titles == ()
    assert plain_text(facts).count("Nothing to compare with yet") == 1


def test_without_renewal_dates_the_question_says_what_is_missing() -> None:
    text = plain_text(replace(some_facts(), contracts=()))
    assert "Reliable enough for renewals? No customer has a renewal date (key renewal of" in text


def test_without_a_customer_directory_the_mail_does_not_ask_about_renewals() -> None:
    facts = replace(some_facts(), contracts=())
    no_directory = replace(facts, segments=())
    asked = "Reliable enough for renewals?"
    mails = [message(one, None) for one in (facts, no_directory)]
    assert [asked in mail for mail in mails] == [True, False]
    assert asked in plain_text(no_directory)
