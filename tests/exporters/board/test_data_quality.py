"""What the live board says when its numbers cannot be trusted, through the real collector: workers
that are gone, partitions that stand, records that are lost, refused or wait."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from exporters.board.alerts import DATA_STALE
from exporters.board.facts import LiveFacts
from slo.alert_state import AlertState
from streams.config.settings import Settings
from tests.support.checks import not_none
from tests.support.exporter_state import NOW_S, StateWriter, event, settings_for
from tests.support.live_board import FixedRules, facts_under
from tests.support.live_facts import World, in_world, the, told, traffic
from tests.support.servers import RedisServer


def calm(seed: int = 1, until_s: int = NOW_S) -> list[dict[str, Any]]:
    return traffic(seed, 5, until_s - 600, until_s)


# -- stale -----------------------------------------------------------------------------------------


def test_without_any_worker_the_numbers_are_old_and_only_that_is_told(
    configured: Callable[..., Any],
) -> None:
    #  an outage begins | the only worker dies | the board, 40 s later
    #       -70 s             -40 s                  now
    def failing(one: dict[str, Any]) -> dict[str, str]:
        return {"outcome": "server_error"} if one["ended_at"] > (NOW_S - 70) * 1_000 else {}

    async def use(world: World) -> LiveFacts:
        events = traffic(2, 5, NOW_S - 600, NOW_S - 40, failing)
        await world.writer.write(0, events, NOW_S - 40)
        return await world.facts()

    facts = in_world(configured(), use)
    (incident,) = facts.incidents
    assert (incident.alert, incident.severity) == ("TokenpulseDataStale", "page")
    assert incident.words == (
        "No worker has sent a heartbeat for 40 s: no event after 22:12:44 UTC counts."
    )
    assert facts.headline == f"These numbers are old: no{incident.words[2:]}"
    assert (facts.state, facts.freshness.state, facts.freshness.workers) == (
        "unknown",
        "breached",
        0,
    )
    assert not_none(facts.availability_ratio.value) < 1
    for number in (facts.availability_ratio, facts.ttft_p95_s, facts.cache_hit_ratio):
        assert number.state == "unknown"
    assert facts.freshness.lag_records is None
    assert facts.freshness.newest_event_age_s == pytest.approx(40.2, abs=0.01)


@pytest.mark.parametrize(("age_s", "is_stale"), [(4, False), (6, True)])
def test_a_worker_counts_as_gone_when_readiness_says_so(
    configured: Callable[..., Any], age_s: int, is_stale: bool
) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm(), NOW_S - age_s)
        return await world.facts()

    facts = in_world(configured(stale_after_s=5), use)
    assert bool(told(facts, "TokenpulseDataStale")) == is_stale


@pytest.mark.parametrize(("silence_s", "is_told"), [(5, False), (25, True)])
def test_a_kafka_that_does_not_answer_is_told_and_pages(
    configured: Callable[..., Any], silence_s: int, is_told: bool
) -> None:
    #  the worker lives, and its last answer from a broker is so old
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm())
        broker_at_ms = (NOW_S - silence_s) * 1_000
        await world.writer.send_heartbeat(0, NOW_S, broker_at_ms=broker_at_ms)
        return await world.facts()

    facts = in_world(configured(), use)
    if not is_told:
        assert (facts.incidents, facts.freshness.lag_records) == ((), 7)
        return
    (incident,) = facts.incidents
    assert incident.words.startswith("No answer from Kafka for 25 s: new requests are not counted")
    assert (incident.alert, facts.notification) == (DATA_STALE, "Paging since 22:13 UTC")
    assert facts.headline.startswith("These numbers are old: no answer from Kafka for 25 s")
    assert (facts.state, facts.freshness.lag_records) == ("unknown", None)


def test_a_worker_of_an_older_version_does_not_report_its_broker(
    configured: Callable[..., Any],
) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm())
        await world.writer.send_heartbeat(0, NOW_S, broker_at_ms="")
        return await world.facts()

    assert in_world(configured(), use).incidents == ()


def test_a_worker_that_comes_back_ends_it(configured: Callable[..., Any]) -> None:
    async def use(world: World) -> tuple[LiveFacts, LiveFacts]:
        await world.writer.write(0, calm(), NOW_S - 40)
        before = await world.facts()
        await world.writer.send_heartbeat(0, NOW_S + 1)
        return before, await world.facts(NOW_S + 1)

    before, after = in_world(configured(), use)
    # Alertmanager has the page still: the rule is kept firing in case the fault returns.
    assert (before.state, after.state) == ("unknown", "at_risk")
    assert [(one.alert, one.is_over) for one in after.incidents] == [("TokenpulseDataStale", True)]


def test_a_partition_nobody_counts_is_named_and_the_others_are_still_told_of(
    configured: Callable[..., Any],
) -> None:
    def failing(one: dict[str, Any]) -> dict[str, str]:
        return {"outcome": "timeout"} if one["region"] == "eu-west-1" else {}

    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, traffic(1, 5, NOW_S - 600, NOW_S, failing))
        await world.writer.write(1, traffic(2, 5, NOW_S - 600, NOW_S), NOW_S - 50)
        return await world.facts()

    facts = in_world(configured(), use)
    assert facts.incidents[0].words == (
        "No worker counts partition 1 of 2: no heartbeat for 50 s, so a part of the traffic is "
        "missing."
    )
    assert facts.headline.startswith("These numbers are old: no worker counts partition 1 of 2")
    assert told(facts, "TokenpulseOutage")[0].words.startswith("Region eu-west-1: ")
    assert (facts.freshness.workers, facts.ttft_p95_s.state) == (1, "unknown")


def test_records_that_wait_unwritten_are_stale(configured: Callable[..., Any]) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm(until_s=NOW_S - 90), NOW_S - 90)
        await world.writer.send_heartbeat(0, NOW_S)  # alive, and 7 records wait
        return await world.facts()

    facts = in_world(configured(), use)
    assert the(facts, "TokenpulseDataStale").words == (
        "Partition 0 is 1 min 30 s behind, and 7 records wait."
    )
    assert facts.state == "unknown"


@pytest.mark.parametrize(
    ("firing_since_s", "headline"),
    [
        (None, "Catching up: partition 0 is 2 min "),
        (NOW_S, "These numbers are old: partition 0 is "),
    ],
)
def test_a_worker_that_starts_catches_up_before_the_rule_fires(
    configured: Callable[..., Any], firing_since_s: float | None, headline: str
) -> None:
    behind = AlertState(
        *(DATA_STALE, "page", {"cause": "behind"}, {"partition": "0"}, 120.0, NOW_S),
        *(firing_since_s, True, 15.0),
    )
    facts = facts_under(configured(), FixedRules([behind]), cold=False)
    assert facts.headline.startswith(headline)
    assert facts.freshness.catching_up == (firing_since_s is None)
    assert facts.state == "unknown"


def test_a_first_load_of_the_past_catches_up_and_pages_nothing(
    configured: Callable[..., Any],
) -> None:
    #  an hour of the past is counted at ten minutes of event time in five seconds
    #       22:13 - 60 min | - 50 min | - 40 min | ... | current
    async def use(world: World) -> list[LiveFacts]:
        found = []
        for step in range(7):
            until_s = NOW_S - 3_600 + step * 600 + (5 * step if step == 6 else 0)
            await world.writer.write(0, calm(step, until_s), NOW_S + 5 * step)
            found.append(await world.facts(NOW_S + 5 * step))
        return found

    loading = in_world(configured(), use)
    # The first look does not yet show how old the newest event was when it was written.
    for facts in loading[1:-1]:
        assert facts.headline.startswith("Catching up: partition 0 is ")
        assert facts.freshness.catching_up
        assert (facts.state, facts.notification) == ("unknown", "Not paged")
        assert [(one.severity, one.alert) for one in facts.incidents] == [("info", DATA_STALE)]
    assert [one.words for one in loading[-1].incidents] == []
    assert loading[-1].state == "ok"


def test_a_halted_partition_says_why_and_is_not_called_stale(
    configured: Callable[..., Any],
) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm())
        await world.writer.write(1, calm(2), NOW_S - 90)
        await world.writer.send_heartbeat(1, NOW_S, halted="unreadable", halted_at=1)
        return await world.facts()

    facts = in_world(configured(), use)
    assert the(facts, "TokenpulsePartitionHalted").words.startswith(
        "Partition 1 is halted (unreadable): "
    )
    assert told(facts, "TokenpulseDataStale") == []
    assert (facts.freshness.state, facts.state) == ("breached", "breached")


# -- missing, refused, waiting ---------------------------------------------------------------------


def test_lost_records_are_told_with_when_and_how_many(configured: Callable[..., Any]) -> None:
    #  event -10 min, 40 records gone, event -5 min, event now
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, [event(NOW_S - 600)])
        await world.facts(NOW_S - 10)
        (await world.writer.owned(0))[1].lose(41)
        await world.writer.write(0, [event(NOW_S - 200), event(NOW_S)])
        return await world.facts()

    facts = in_world(configured(), use)
    assert the(facts, "TokenpulseRecordsLost").words == (
        "40 records were lost from 22:03:25 UTC to 22:10:05 UTC: gone from Kafka before they were "
        "counted, or skipped by an operator."
    )
    incomplete = the(facts, "TokenpulseWindowIncomplete")
    assert incomplete.words.endswith("are of a part of the traffic only: 40 records are missing.")
    assert "over 5m, 30m, 1h, 6h," in incomplete.words
    assert incomplete.severity == "ticket"
    assert (facts.freshness.complete, facts.freshness.state) == (False, "at_risk")


def rising(
    settings: Settings, change: Callable[..., Any], *, before: Callable[..., Any] | None = None
) -> LiveFacts:
    """The board after something happened between two looks at a calm state."""

    async def use(world: World) -> tuple[LiveFacts, LiveFacts]:
        await world.writer.write(0, calm())
        if before is not None:
            await before(world.writer)
        first = await world.facts(NOW_S)
        await change(world.writer)
        return first, await world.facts(NOW_S + 10)

    first, last = in_world(settings, use)
    assert first.incidents == ()
    return last


def test_refused_records_are_told_with_their_share_and_the_commonest_reason(
    configured: Callable[..., Any],
) -> None:
    async def refuse(writer: StateWriter) -> None:
        bad = [b"not json"] * 12 + [b"{}"] * 3
        await writer.write(0, [*traffic(9, 9, NOW_S, NOW_S + 10), *bad], NOW_S + 10)

    incident = the(rising(configured(), refuse), "TokenpulseRecordsRefused")
    assert incident.words.startswith(
        "14.3 % of the newest records are rejected (15, mostly not_json)"
    )
    assert incident.severity == "ticket"


def test_a_few_refused_records_are_no_trouble(configured: Callable[..., Any]) -> None:
    async def refuse(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S + 9), *[b"not json"] * 9], NOW_S + 10)

    assert rising(configured(), refuse).incidents == ()


def test_a_small_share_of_refused_records_is_no_trouble(configured: Callable[..., Any]) -> None:
    async def refuse(writer: StateWriter) -> None:
        await writer.write(0, [*traffic(9, 200, NOW_S, NOW_S + 10), *[b"x"] * 12], NOW_S + 10)

    assert rising(configured(), refuse).incidents == ()


def test_refused_records_of_long_ago_are_no_trouble(configured: Callable[..., Any]) -> None:
    async def refused_before(writer: StateWriter) -> None:
        await writer.write(0, [b"not json"] * 500)

    async def go_on(writer: StateWriter) -> None:
        await writer.write(0, [event(NOW_S + 9)], NOW_S + 10)

    assert rising(configured(), go_on, before=refused_before).incidents == ()


def test_a_state_that_was_lost_is_told(configured: Callable[..., Any]) -> None:
    async def lose(writer: StateWriter) -> None:
        (await writer.owned(0))[1].mark_rebuilt(1)
        await writer.write(0, [event(NOW_S + 9)], NOW_S + 10)

    words = the(rising(configured(), lose), "TokenpulseStateLost").words
    assert words.startswith("The state of partition 0 was missing in Redis")


def test_folded_names_are_told(redis_server: RedisServer, redis_client: Redis) -> None:
    settings = settings_for(redis_server.url, {"limits": {"models": 3}})

    async def fold(writer: StateWriter) -> None:
        odd = [event(NOW_S + 9, model=f"odd-{number}") for number in range(4)]
        await writer.write(0, odd, NOW_S + 10)

    words = the(rising(settings, fold), "TokenpulseLabelsFolded").words
    assert words.startswith("There are too many different values of model: 4 events counted")


def test_a_lag_that_grows_is_told_and_one_that_shrinks_is_not(
    configured: Callable[..., Any],
) -> None:
    async def after(world: World, lags: list[int]) -> LiveFacts:
        for number, lag in enumerate(lags):
            now_s = NOW_S + 60 * number
            await world.writer.write(0, traffic(number, 1, now_s - 10, now_s), now_s)
            offset = (await world.writer.owned(0))[1].next_offset
            await world.writer.send_heartbeat(0, now_s, highwater=offset + lag)
            facts = await world.facts(now_s)
        return facts

    rising_lags = [500, 900, 1_500, 1_400, 2_000, 2_600, 3_100, 3_000]
    growing = in_world(configured(), lambda world: after(world, rising_lags))
    assert the(growing, "TokenpulseLagGrowing").words.startswith(
        "3,000 records of partition 0 wait"
    )
    assert growing.freshness.lag_records == 3_000
    assert growing.freshness.state == "at_risk"
    for lags in (rising_lags[:4], [9_000 - 1_000 * number for number in range(8)]):
        facts = in_world(configured(), lambda world, lags=lags: after(world, lags))  # type: ignore[misc]
        assert told(facts, "TokenpulseLagGrowing") == []


# -- workers and the archive -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "count", "alert", "words"),
    [
        ("store_errors", 60, "TokenpulseStoreErrors", "Writes of worker host:0 to Redis fail: "),
        ("rollbacks", 1, "TokenpulseStateRolledBack", "Redis was set back behind what worker "),
        ("conflicts", 1, "TokenpulseStateConflict", "A checkpoint of worker host:0 was rejected: "),
        (
            "seen_forgotten",
            9,
            "TokenpulseDuplicateWindowForgotten",
            "There is no room for all request ids of partition 0: ",
        ),
    ],
)
def test_what_a_worker_counts_is_told_as_its_alert_exists(
    configured: Callable[..., Any], counter: str, count: int, alert: str, words: str
) -> None:
    async def count_it(writer: StateWriter) -> None:
        await writer.send_heartbeat(0, NOW_S + 10, **{counter: count})

    incident = the(rising(configured(), count_it), alert)
    assert incident.words.startswith(words)
    assert incident.severity == "ticket"


def test_a_few_failed_writes_to_redis_are_no_trouble(configured: Callable[..., Any]) -> None:
    async def fail(writer: StateWriter) -> None:
        await writer.send_heartbeat(0, NOW_S + 10, store_errors=3)

    assert rising(configured(), fail).incidents == ()


def test_an_old_archive_is_told_and_leaves_the_numbers_trusted(
    configured: Callable[..., Any],
) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, calm())
        await world.writer.send_heartbeat(0, NOW_S, archived_ms=(NOW_S - 3 * 3_600) * 1_000)
        return await world.facts()

    facts = in_world(configured(), use)
    assert the(facts, "TokenpulseArchiveOld").words.startswith(
        "The newest archive of partition 0 is 3 h old: "
    )
    assert (facts.freshness.state, facts.state) == ("ok", "at_risk")


# -- every alert -----------------------------------------------------------------------------------
