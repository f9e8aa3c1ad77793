"""What the live board says in the seconds before a silent worker or Kafka is an alert."""

from collections.abc import Callable
from typing import Any

import pytest

from exporters.board.alerts import DATA_STALE
from exporters.board.facts import LiveFacts
from streams.config.settings import Settings
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, in_world, told, traffic


def calm(seed: int = 1) -> list[dict[str, Any]]:
    return traffic(seed, 5, NOW_S - 600, NOW_S)


def freshness_over_time(
    settings: Settings, heartbeat: Callable[[int], dict[str, int] | None]
) -> dict[int, LiveFacts]:
    """The board each second from 0 to 25; `heartbeat`: what the worker sends, None for nothing."""

    async def use(world: World) -> dict[int, LiveFacts]:
        await world.writer.write(0, calm())
        shown = {}
        for after_s in range(26):
            fields = heartbeat(after_s)
            if fields is not None:
                await world.writer.send_heartbeat(0, NOW_S + after_s, **fields)
            shown[after_s] = await world.facts(NOW_S + after_s)
        return shown

    return in_world(settings, use)


@pytest.mark.parametrize("fault", ["worker", "broker"])
def test_after_a_few_seconds_without_news_nothing_is_called_up_to_date(
    configured: Callable[..., Any], fault: str
) -> None:
    #  news | quiet | "no news", in grey | the alert's condition
    #  0 s         6 s                  16 s (worker), 21 s (broker)
    def heartbeat(after_s: int) -> dict[str, int] | None:
        if fault == "worker":
            return {} if after_s == 0 else None
        return {"broker_at_ms": NOW_S * 1_000}

    alerted_s = {"worker": 16, "broker": 21}[fault]
    shown = freshness_over_time(configured(), heartbeat)
    for after_s, facts in shown.items():
        fresh = facts.freshness
        if after_s <= 5:
            assert (fresh.state, fresh.no_news, fresh.lag_records) == ("ok", False, 7)
            assert fresh.words == "Up to date."
        elif after_s < alerted_s:
            begin = {"worker": "No news from any worker", "broker": "No answer from Kafka"}[fault]
            assert fresh.words.startswith(f"{begin} for {after_s} s: ")
            assert (fresh.state, fresh.no_news, fresh.lag_records) == ("unknown", True, None)
            assert fresh.words in facts.headline  # below a green banner it would be overlooked
            assert told(facts, DATA_STALE) == []
        else:
            assert (fresh.state, fresh.no_news) == ("breached", False)
            assert told(facts, DATA_STALE) != []


def test_news_of_some_workers_only_name_the_partitions_of_the_others(
    configured: Callable[..., Any],
) -> None:
    async def use(world: World) -> LiveFacts:
        for partition in range(3):
            await world.writer.write(partition, calm(partition))
        await world.writer.send_heartbeat(0, NOW_S + 8)
        await world.writer.send_heartbeat(2, NOW_S + 8)
        return await world.facts(NOW_S + 8)

    fresh = in_world(configured(), use).freshness
    assert fresh.words.startswith("No news from the workers of partition 1 for 8 s: ")
    assert (fresh.workers, fresh.lag_records) == (2, None)


@pytest.mark.parametrize(
    ("fall", "end"),
    [
        # 1,000 fewer wait after each 10 s, so the last 100,000 take 1,000 s, rounded up.
        (1_000, "; about 20 min more at this pace."),
        # As many arrive as are counted.
        (0, "."),
    ],
)
def test_a_backlog_says_when_it_will_be_counted_at_the_pace_at_which_it_shrinks(
    configured: Callable[..., Any], fall: int, end: str
) -> None:
    async def use(world: World) -> list[str]:
        headlines = []
        for step in range(3):
            until_s, now_s = NOW_S - 3_600 + 10 * step, NOW_S + 10 * step
            await world.writer.write(0, traffic(step, 5, until_s - 600, until_s), now_s)
            offset = (await world.writer.owned(0))[1].next_offset
            waiting = 100_000 + (2 - step) * fall
            await world.writer.send_heartbeat(0, now_s, highwater=offset + waiting)
            # Partition 1 is up to date, and counts its records at a pace of its own.
            await world.writer.write(1, traffic(10 + step, 50, now_s - 10, now_s), now_s)
            offset = (await world.writer.owned(1))[1].next_offset
            await world.writer.send_heartbeat(1, now_s, highwater=offset + (2 - step) * 9_000)
            headlines.append((await world.facts(now_s)).headline)
        return headlines

    headline = in_world(configured(), use)[-1]
    assert headline.endswith(f" behind, and 100,000 records wait{end}")
