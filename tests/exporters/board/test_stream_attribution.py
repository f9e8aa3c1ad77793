"""Failures of streamed requests, or of all others, are told apart on the live board."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.exporter_state import NOW_S
from tests.support.live_board import facts_of
from tests.support.live_facts import in_world, traffic

Change = Callable[[dict[str, Any]], dict[str, Any]]
# The share of its requests that each model streams.
STREAMED = {"opus": 0.95, "sonnet": 0.5, "haiku": 0.2}


def mixed(since_s: int, failing: bool, share: float = 0.3, **place: Any) -> Change:
    """Stream a part of the requests; of those that stream (do not) a share fails."""
    chance = random.Random(7)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        stream = chance.random() < STREAMED.get(one["model"], 0.5)
        changed: dict[str, Any] = {"stream": stream}
        inside = one["ended_at"] >= since_s * 1_000 and place.items() <= one.items()
        if inside and stream is failing and chance.random() < share:
            changed["outcome"] = "server_error"
        return changed

    return change


@pytest.mark.parametrize(
    ("failing", "place", "begin"),
    [
        # Not the model that streams most of its requests.
        (True, {}, "Streaming: "),
        (True, {"region": "eu-west-1"}, "Streaming in region eu-west-1: "),
        (False, {}, "Requests without streaming: "),
        (False, {"model": "opus"}, "Requests without streaming in model opus: "),
    ],
)
def test_failures_are_attributed_to_streaming_and_the_place(
    configured: Callable[..., Any], failing: bool, place: dict[str, Any], begin: str
) -> None:
    events = traffic(4, 60, NOW_S - 600, NOW_S, mixed(NOW_S - 50, failing, **place))
    words = facts_of(configured(), events).incidents[0].words
    assert words.startswith(begin), words
    mine = [
        one
        for one in events
        if one["ended_at"] >= (NOW_S - 55) * 1_000
        and one["stream"] is failing
        and place.items() <= one.items()
    ]
    bad = sum(one["outcome"] != "success" for one in mine)
    of = f"{len(mine):,} {'streamed ' if failing else ''}requests"
    assert f" {100 * bad / len(mine):.1f} % of {of} failed in the last minute" in words or (
        f", {100 * bad / len(mine):.1f} % of {len(mine):,} in the last minute" in words
    )
    elsewhere = "elsewhere" if place else "other requests"
    assert words.endswith(f"; {elsewhere} 0 %.")


def test_five_seconds_of_failing_streams_are_enough(configured: Callable[..., Any]) -> None:
    events = traffic(4, 60, NOW_S - 600, NOW_S, mixed(NOW_S - 5, failing=True))
    assert facts_of(configured(), events).incidents[0].words.startswith("Streaming: ")


def test_failures_of_seconds_are_named_before_they_are_a_share_of_the_minute(
    configured: Callable[..., Any],
) -> None:
    events = traffic(4, 80, NOW_S - 600, NOW_S, mixed(NOW_S - 3, failing=True, share=0.2))
    bad = sum(one["outcome"] != "success" for one in events)
    streamed = sum(one["stream"] for one in events if one["ended_at"] >= (NOW_S - 55) * 1_000)
    # A burn rate of 14.4 allows 1.44 % of the requests to fail.
    assert 16 <= bad < 0.0144 * streamed
    assert facts_of(configured(), events).incidents[0].words.startswith("Streaming: ")


def broken(since_s: float, share: float, **place: Any) -> Change:
    """Break a share of the streams of a place, and a thousandth of all before."""
    chance = random.Random(9)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        is_hit = one["ended_at"] >= since_s * 1_000 and place.items() <= one.items()
        stream = chance.random() < 0.6
        fails = stream and chance.random() < (share if is_hit else 0.001)
        return {"stream": stream} | ({"outcome": "stream_error"} if fails else {})

    return change


@pytest.mark.parametrize(
    ("place", "begin"),
    [({}, "Streaming: "), ({"region": "eu-west-1"}, "Streaming in region eu-west-1: ")],
)
def test_a_dozen_broken_streams_are_enough(
    configured: Callable[..., Any], place: dict[str, Any], begin: str
) -> None:
    #  60 requests a second, of which 36 stream and 7 break, or half of those of a third
    share, since_s = (0.5, NOW_S - 1.6) if place else (0.2, NOW_S - 1.6)
    events = traffic(4, 60, NOW_S - 900, NOW_S, broken(since_s, share, **place))
    now = [one for one in events if one["ended_at"] >= since_s * 1_000]
    bad = sum(one.get("outcome") == "stream_error" for one in now)
    assert 10 <= bad < 16
    facts = facts_of(configured(), events)
    words = [one.words for one in facts.incidents if one.key.startswith("failures")]
    assert [one.startswith(begin) for one in words] == [True], words
    assert facts.state == "breached"


def test_a_dozen_broken_streams_are_none_if_so_many_are_usual(
    configured: Callable[..., Any],
) -> None:
    #  0.7 % of the streams always break, and twice as many in the last 20 s
    always, now = broken(0, 0.007), broken(0, 0.016)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return (now if one["ended_at"] >= (NOW_S - 15) * 1_000 else always)(one)

    events = traffic(4, 60, NOW_S - 900, NOW_S, change)
    newest = [one for one in events if one["ended_at"] >= (NOW_S - 15) * 1_000]
    assert 10 <= sum(one["outcome"] == "stream_error" for one in newest) < 16
    facts = facts_of(configured(), events)
    assert [one for one in facts.incidents if one.key.startswith("failures")] == []


def test_broken_streams_of_one_model_are_not_first_said_to_be_everywhere(
    configured: Callable[..., Any],
) -> None:
    #  nine tenths of opus' share of the traffic, refresh by refresh
    async def use(world: Any) -> set[str]:
        told, begin_s = set(), NOW_S - 60
        events = traffic(
            4, 60, begin_s - 540, NOW_S - 50, broken(begin_s, 0.3, model="opus", region="eu-west-1")
        )
        from_s = begin_s - 540.0
        for tenths in range(0, 100, 3):
            until_s = begin_s + tenths / 10
            new = [one for one in events if from_s * 1_000 <= one["ended_at"] < until_s * 1_000]
            await world.writer.write(0, new, int(until_s))
            from_s = until_s
            told |= {
                one.words.split(":")[0]
                for one in (await world.facts(until_s)).incidents
                if one.key.startswith("failures")
            }
        return told

    assert in_world(configured(), use) == {"Streaming in model opus in region eu-west-1"}


def test_without_the_flag_of_failed_requests_streaming_is_not_blamed(
    configured: Callable[..., Any],
) -> None:
    plain = mixed(NOW_S - 50, failing=False)

    def unknown(one: dict[str, Any]) -> dict[str, Any]:
        changed = plain(one)
        return changed | {"stream": None} if "outcome" in changed else changed

    words = facts_of(configured(), traffic(4, 60, NOW_S - 600, NOW_S, unknown)).incidents[0].words
    assert "treaming" not in words


@pytest.mark.parametrize("probes_fail", [False, True])
def test_probes_never_make_streaming_or_other_requests_look_guilty(
    configured: Callable[..., Any], probes_fail: bool
) -> None:
    """All requests are streamed; the probes, which are not, differ from them."""
    chance = random.Random(5)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        is_probe = chance.random() < 0.3
        is_now = one["ended_at"] >= (NOW_S - 50) * 1_000 and one["channel"] == "bedrock"
        fails = is_now and is_probe is probes_fail and chance.random() < 0.4
        changed: dict[str, Any] = {"stream": not is_probe} | ({"probe": True} if is_probe else {})
        return changed | ({"outcome": "server_error"} if fails else {})

    events = traffic(4, 60, NOW_S - 600, NOW_S, change)
    words = facts_of(configured(), events).incidents[0].words
    assert words.startswith("Channel bedrock: "), words


def test_failures_of_streams_and_of_all_others_are_blamed_on_neither(
    configured: Callable[..., Any],
) -> None:
    chance = random.Random(3)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        fails = one["ended_at"] >= (NOW_S - 50) * 1_000 and chance.random() < 0.2
        return {"stream": chance.random() < 0.5} | ({"outcome": "timeout"} if fails else {})

    words = facts_of(configured(), traffic(4, 60, NOW_S - 600, NOW_S, change)).incidents[0].words
    assert "treaming" not in words


def test_the_attribution_and_the_incident_stay_from_the_first_seconds_to_the_last(
    configured: Callable[..., Any],
) -> None:
    async def use(world: Any) -> list[tuple[str, str, int]]:
        told = []
        begin_s = NOW_S - 60
        change = mixed(begin_s, failing=True, share=0.05, region="eu-west-1")
        events = traffic(4, 60, begin_s - 540, NOW_S, change)
        at_s = begin_s - 540
        for until_s in range(begin_s + 5, NOW_S, 2):
            new = [one for one in events if at_s * 1_000 <= one["ended_at"] < until_s * 1_000]
            await world.writer.write(0, new, until_s)
            at_s = until_s
            for one in (await world.facts(until_s)).incidents:
                if one.key.startswith("failures"):
                    told.append((one.words.split(":")[0], one.id or "", until_s))
        return told

    told = in_world(configured(), use)
    assert len({when for _, _, when in told}) >= 20
    assert {words for words, _, _ in told} == {"Streaming in region eu-west-1"}
    # A moment of less than 5 s has no record yet, and so no address.
    assert len({id for _, id, _ in told if id}) == 1
